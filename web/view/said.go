package view

import (
	"regexp"
	"strings"
	"time"
)

// The daemon speaks English: what a machine does just now, why something cannot be
// done, what went wrong and what to do about it. Said gives such a sentence in the
// reader's language when it is known, and as it is otherwise. A sentence is known
// by its slug under "said", by a pattern whose blanks are filled, or it stands whole
// beside its translation: see told.go.
func (w *Words) Said(text string) string {
	return durations.ReplaceAllStringFunc(w.said(text), func(written string) string {
		d, err := time.ParseDuration(written)
		if err != nil {
			return written
		}
		return w.Duration(d)
	})
}

// SaidList gives sentences that were joined, as obstacles and the cause, effect and
// remedy of a problem are.
func (w *Words) SaidList(text string) string {
	parts := strings.Split(text, "; ")
	for i, part := range parts {
		said := w.Said(part)
		if said == part && w.Lang() != Languages[0] {
			return w.Said(text) // the sign is inside of a sentence
		}
		parts[i] = said
	}
	return strings.Join(parts, "; ")
}

// durations are those that Go writes: 1m0s, 2h0m0s. People do not.
var durations = regexp.MustCompile(`\b(?:\d+h)?\d+m\d+(?:\.\d+)?s\b`)

func (w *Words) said(text string) string {
	if text == "" || w.Lang() == Languages[0] {
		return text
	}
	if whole, ok := w.tongue.sentences.whole[text]; ok {
		return whole
	}
	if key := "said." + saidSlug(text); w.Has(key) {
		return w.T(key)
	}
	if filled, ok := w.told(text); ok {
		return filled
	}
	for _, p := range patterns {
		m := p.form.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		var blanks []any
		for i, name := range p.form.SubexpNames() {
			if name == "" {
				continue
			}
			blanks = append(blanks, name, w.filled(name, m[i]))
		}
		return w.T("pattern."+p.key, blanks...)
	}
	// Callers wrap what they were doing around a problem: "replicate web01: ".
	if at := strings.Index(text, ": "); at >= 0 {
		at += len(": ")
		return text[:at] + w.said(text[at:])
	}
	return text
}

// filled is the value of a blank, as its name wants it told.
func (w *Words) filled(name, value string) string {
	switch {
	case strings.HasPrefix(name, "SaidList"):
		return w.SaidList(value)
	case strings.HasPrefix(name, "Said"):
		return w.Said(value)
	case strings.HasPrefix(name, "Verb"):
		if known := w.Named("spoken", value); known != value {
			return known
		}
		return w.Named("verb", value)
	case strings.HasPrefix(name, "Step"):
		return w.Named("step", value)
	case strings.HasPrefix(name, "Scenario"):
		return w.Named("scenario", value)
	case strings.HasPrefix(name, "State"):
		return w.Named("state", value)
	}
	return value
}

// maxSlug bounds the keys of sentences: their beginning tells them apart.
const maxSlug = 60

func saidSlug(text string) string {
	s := strings.Trim(slug(strings.ToLower(text)), "-")
	if len(s) > maxSlug {
		s = s[:maxSlug]
	}
	return strings.Trim(s, "-")
}

// pattern is a sentence with blanks. A blank named Said… is a sentence itself, one
// named Verb…, Step…, State… or Scenario… is looked up by its name.
type pattern struct {
	key  string
	form *regexp.Regexp
}

var patterns = []pattern{
	{"try-again-in", regexp.MustCompile(`^try again in (?P<Wait>.+)$`)},
	{"not-in-state", regexp.MustCompile(`^No (?P<Verb>.+) while the machine is in state “(?P<State>.+)”\.$`)},
	{"never-reverse", regexp.MustCompile(`^(?P<Scenario>.+) has no (?P<Verb>.+) in reverse\.$`)},
	{"never", regexp.MustCompile(`^(?P<Scenario>.+) has no (?P<Verb>.+)\.$`)},
	{"commits-itself", regexp.MustCompile(`^(?P<Scenario>.+) commits a failover by itself: the recovery point cannot be changed\.$`)},
	{"reading", regexp.MustCompile(`^reading changes of (?P<Disk>.+)$`)},
	{"comparing", regexp.MustCompile(`^comparing (?P<Disk>\S+)$`)},
	{"copying", regexp.MustCompile(`^copying (?P<Disk>\S+)$`)},
	{"step-final", regexp.MustCompile(`^the step “(?P<Step>.+)” has begun and cannot be taken back$`)},
	{"not-confirmed", regexp.MustCompile(`^(?P<Verb>\S+) of (?P<Machine>.+) was not confirmed$`)},
	{"repeat-name", regexp.MustCompile(`^repeat the machine's name, "(?P<Name>.+)", as confirmation$`)},
	{"cannot-now", regexp.MustCompile(`^(?P<Verb>\S+) cannot be done on (?P<Machine>.+) now$`)},
	{"no-policy", regexp.MustCompile(`^there is no policy "(?P<Name>.+)"$`)},
	{"no-site", regexp.MustCompile(`^there is no site "(?P<Name>.+)"$`)},
	{"no-machine", regexp.MustCompile(`^there is no protected machine "(?P<Name>.+)"$`)},
	{"site-exists", regexp.MustCompile(`^there is a site "(?P<Name>.+)" already$`)},
	{"same-place", regexp.MustCompile(`^(?P<Address>.+) is the place of site "(?P<Name>.+)" already$`)},
	{"policy-exists", regexp.MustCompile(`^there is a policy (?P<Name>.+) already$`)},
	{"site-in-use", regexp.MustCompile(`^site (?P<Site>.+) is used by machine (?P<Machine>.+)$`)},
	{"protected-already", regexp.MustCompile(`^(?P<Machine>\S+) is protected already$`)},
	{"same-site", regexp.MustCompile(`^site (?P<Site>.+) cannot be the source and the target of (?P<Machine>.+)$`)},
	{"waiting", regexp.MustCompile(`^waiting (?P<Wait>[^:]+): (?P<Said>.+)$`)},
	{"older-than", regexp.MustCompile(`^the newest recovery point is older than (?P<Limit>.+)$`)},
	{"role-may-not", regexp.MustCompile(`^the role (?P<Role>.+) may not do this$`)},
	{"fewer-characters", regexp.MustCompile(`^the password has fewer than (?P<Count>\d+) characters$`)},
	{"account-exists", regexp.MustCompile(`^there is an account (?P<Name>.+) already$`)},
	{"password-elsewhere", regexp.MustCompile(`^the password of (?P<Name>.+) is not kept here$`)},
	{"signon-role", regexp.MustCompile(`^(?P<Name>.+) is known there, but nothing gives a role here$`)},
	{"signon-directory", regexp.MustCompile(`^the directory cannot be asked: (?P<Reason>.+)$`)},
	{"signon-service", regexp.MustCompile(`^the sign-in service cannot be asked: (?P<Reason>.+)$`)},
	{"signon-role-given", regexp.MustCompile(`^the role of (?P<Name>.+) is given by the groups of another service$`)},
	{"passkeys-many", regexp.MustCompile(`^there are (?P<Count>\d+) passkeys already$`)},
	{"identity-key", regexp.MustCompile(`^the key of the accounts' secrets (?P<File>.+) cannot be read: (?P<Reason>.+)$`)},
	{"identity-seal", regexp.MustCompile(`^a secret cannot be opened with the key of this appliance \((?P<What>.+)\)$`)},
	{"account-closed", regexp.MustCompile(`^the account (?P<Name>.+) is closed$`)},
	{"signon-refused", regexp.MustCompile(`^the sign-in service refused: (?P<Reason>.+)$`)},
	{"service-unreachable", regexp.MustCompile(`^(?P<Service>.+) cannot be asked: (?P<Reason>.+)$`)},
	{"signon-clash", regexp.MustCompile(`^the name (?P<Name>.+) belongs to somebody else here$`)},
	{"signon-rule", regexp.MustCompile(`^the rule (?P<Rule>.+) gives no role$`)},
	{"audit-missing", regexp.MustCompile(`^lines (?P<First>\d+) to (?P<Last>\d+) are missing$`)},
	{"audit-cut", regexp.MustCompile(`^lines (?P<First>\d+) to (?P<Last>\d+), the newest, are missing$`)},
	{"audit-changed", regexp.MustCompile(`^line (?P<Line>\d+) is not as it was written, or not where it was written$`)},
	{"audit-foreign", regexp.MustCompile(`^line (?P<Line>\d+) was signed with the key (?P<Key>\w+), not with the one of this appliance, (?P<Own>\w+)$`)},
	{"audit-behind", regexp.MustCompile(`^lines (?P<First>\d+) to (?P<Last>\d+) stand behind the signed end of the log$`)},
	{"audit-again", regexp.MustCompile(`^line (?P<Line>\d+) was let go of and stands here again$`)},
	{"audit-end", regexp.MustCompile(`^line (?P<Line>\d+) is not the one that the log ended with$`)},
	{"last-administrator", regexp.MustCompile(`^(?P<Name>.+) is the last administrator$`)},
}
