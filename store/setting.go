package store

import (
	"encoding/json"
	"errors"
	"fmt"
)

// Setting is a small value of the appliance itself: its id, the hash of the setup
// token, the time of the last backup. Key: its Name.
type Setting struct {
	Name  string          `json:"name"`
	Value json.RawMessage `json:"value"`
}

// Setting reads a setting into value. Without one it leaves value alone and
// reports false.
func (tx *Tx) Setting(name string, value any) (found bool, err error) {
	s, err := tx.Settings().Get(name)
	if errors.Is(err, ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if err := json.Unmarshal(s.Value, value); err != nil {
		return false, fmt.Errorf("setting %s: %w", name, err)
	}
	return true, nil
}

// SetSetting writes a setting.
func (tx *Tx) SetSetting(name string, value any) error {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("setting %s: %w", name, err)
	}
	return tx.Settings().Put(Setting{Name: name, Value: text})
}
