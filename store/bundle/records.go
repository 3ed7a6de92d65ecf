package bundle

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"riparo/store"
	"riparo/store/redact"
)

// Records are the parts that come from the store: one for each kind, a record a
// line. Sessions stay where they are. Reading them makes the secrets known that
// they hold.
func Records(st *store.Store, secrets *redact.Values) ([]Part, error) {
	var parts []Part
	err := st.View(func(tx *store.Tx) error {
		var errs error
		add := func(name string, count int, err error) {
			parts = append(parts, Part{Name: "records/" + name + ".jsonl", About: name, Size: int64(count)})
			if err != nil && errs == nil {
				errs = fmt.Errorf("count the %s: %w", name, err)
			}
		}
		for _, k := range recordKinds {
			size, err := k.size(tx, secrets)
			add(k.name, int(size), err)
		}
		return errs
	})
	for i := range parts {
		k := recordKinds[i]
		parts[i] = Text(parts[i].Name, parts[i].About, parts[i].Size, func(w *bufio.Writer) error {
			// Into memory first, 20 MiB at most: a slow reader must not hold a
			// transaction open, because the store would grow meanwhile.
			var kept bytes.Buffer
			held := bufio.NewWriter(&kept)
			err := st.View(func(tx *store.Tx) error { return k.write(tx, secrets, held) })
			held.Flush() // memory takes everything
			_, errWrite := kept.WriteTo(w)
			return errors.Join(err, errWrite)
		})
	}
	return parts, err
}

// RecordSizes are the parts of Records and about how large they are, to be listed: they
// are counted as the store keeps them, and cannot be written.
func RecordSizes(st *store.Store) (parts []Part, err error) {
	err = st.View(func(tx *store.Tx) error {
		for _, k := range recordKinds {
			size, err := k.kept(tx)
			if err != nil {
				return fmt.Errorf("count the %s: %w", k.name, err)
			}
			parts = append(parts, Part{Name: "records/" + k.name + ".jsonl", About: k.name, Size: size})
		}
		return nil
	})
	return parts, err
}

// recordKind is a kind of record, whatever its type.
type recordKind struct {
	name  string
	write func(tx *store.Tx, secrets *redact.Values, w *bufio.Writer) error
	kept  func(tx *store.Tx) (int64, error) // bytes in the store
}

// size is how many bytes the records of a kind take without their secrets, which
// are known afterwards.
func (k recordKind) size(tx *store.Tx, secrets *redact.Values) (int64, error) {
	var n counter
	w := bufio.NewWriter(&n)
	err := k.write(tx, secrets, w)
	w.Flush() // a counter takes everything
	return int64(n), err
}

type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// recordKinds come in this order: what holds secrets first.
var recordKinds = []recordKind{
	kind("settings", (*store.Tx).Settings),
	kind("users", (*store.Tx).Users),
	kind("tokens", (*store.Tx).Tokens),
	kind("sites", (*store.Tx).Sites),
	kind("policies", (*store.Tx).Policies),
	kind("machines", (*store.Tx).Machines),
	kind("jobs", (*store.Tx).Jobs),
	kind("events", (*store.Tx).Events),
	kind("exports", (*store.Tx).Exports),
}

func kind[T any](name string, table func(*store.Tx) store.Table[T]) recordKind {
	kept := func(tx *store.Tx) (int64, error) { return table(tx).Size() }
	return recordKind{name, func(tx *store.Tx, secrets *redact.Values, w *bufio.Writer) error {
		for record, err := range table(tx).All() {
			if err != nil {
				return err
			}
			text, err := json.Marshal(record)
			if err != nil {
				return err
			}
			var value any
			if err := json.Unmarshal(text, &value); err != nil {
				return err
			}
			if s, ok := any(record).(store.Setting); ok {
				value = settingValue(s, value, secrets)
			}
			if text, err = json.Marshal(secrets.Record(value)); err != nil {
				return err
			}
			w.Write(text)
			w.WriteByte('\n')
		}
		return nil
	}, kept}
}

// settingValue: the name of a setting is the name of its value. A text that stands
// alone tells nobody what it is, so it is taken for a secret.
func settingValue(s store.Setting, value any, secrets *redact.Values) any {
	fields, _ := value.(map[string]any)
	text, alone := fields["value"].(string)
	if alone && text != "" {
		if redact.Name(s.Name) {
			secrets.Add(text)
		}
		fields["value"] = redact.Mark
	} else if redact.Name(s.Name) && fields["value"] != nil {
		return map[string]any{"name": s.Name, "value": secrets.Record(map[string]any{"secret": fields["value"]})}
	}
	return value
}
