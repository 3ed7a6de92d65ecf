package redact

import (
	"regexp"
	"strings"
)

// Mark stands where a secret was.
const Mark = "[redacted]"

// secretNames are parts of the names of what holds a secret. A name that only
// counts or names them (token_id, password_length) is taken for one too: better a
// word too much than a password too many.
var secretNames = []string{"password", "passwd", "pwd", "passphrase", "secret", "token", "authorization", "cookie", "credential",
	"private_key", "privatekey", "private-key", "api_key", "apikey", "api-key", "account_key", "accountkey", "access_key", "accesskey",
	"hash", "totp", "otpauth", "recovery_code", "recovery-code", "salt"}

// Name reports whether what carries this name is a secret.
func Name(name string) bool {
	name = strings.ToLower(name)
	for _, part := range secretNames {
		if strings.Contains(name, part) {
			return true
		}
	}
	// A key of encryption is one by itself; a "key" of a disk or a map is not.
	return name == "key" || strings.HasSuffix(name, "_key") || strings.HasSuffix(name, "masterkey")
}

// looks are secrets that can be told by how they look. The first group, if any, is
// kept, and so is the last.
var looks = []*regexp.Regexp{
	regexp.MustCompile(`(?s)(-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----).*?(-----END [A-Z0-9 ]*PRIVATE KEY-----|$)`),
	regexp.MustCompile(`(?i)(\b(?:bearer|basic|digest|negotiate|ntlm)\s+)[A-Za-z0-9._~+/=-]{6,}()`),
	regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://[^\s/:@"']*:)[^\s/@"']+(@)`), // user:password@host
	regexp.MustCompile(`()\briparo_[A-Za-z0-9]+_[A-Z2-7]{12,}()`),               // an API token of ours
	regexp.MustCompile(`()\$(?:argon2|2[aby]|scrypt|pbkdf2)[a-z0-9-]*\$[^\s"']+()`),
	regexp.MustCompile(`()\bAGE-SECRET-KEY-[A-Z0-9]+()`),
	regexp.MustCompile(`()\b(?:AKIA|ASIA)[A-Z0-9]{16}\b()`),
	regexp.MustCompile(`()\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*()`), // a JSON web token
	// name=value, name: value, "name":"value"
	regexp.MustCompile(`(?i)((?:password|passwd|pwd|passphrase|secret|api[_-]?key|account[_-]?key|access[_-]?key|authorization|cookie|token|credential|totp|sig|signature)[A-Za-z0-9_-]*\\?["']?\s*[:=]\s*\\?["']?)(?:[^\s"'\\,;&}\]]+)()`),
}

// hints are in any text that one of the looks can match: most texts have none, and
// are left alone at once.
var hints = []string{"private key", "bearer", "basic", "digest", "negotiate", "ntlm", "://", "riparo_", "$argon2", "$2", "$scrypt", "$pbkdf2", "age-secret", "akia", "asia", "eyj",
	"pass", "pwd", "secret", "key", "authorization", "cookie", "token", "credential", "totp", "sig"}

// Text gives s without what looks like a secret.
func Text(s string) string {
	lower := strings.ToLower(s)
	suspect := false
	for _, hint := range hints {
		if suspect = strings.Contains(lower, hint); suspect {
			break
		}
	}
	if !suspect {
		return s
	}
	for _, look := range looks {
		s = look.ReplaceAllString(s, "${1}"+Mark+"${2}")
	}
	return s
}
