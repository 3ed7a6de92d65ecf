package redact

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestWhatLooksLikeASecretIsTakenOut(t *testing.T) {
	for _, row := range []struct{ text, want string }{
		{"the vault is 86 % full", "the vault is 86 % full"},
		{"recovery point 7f3a of WEB01 taken", "recovery point 7f3a of WEB01 taken"},
		{"dial https://dr-svc:hunter2@vcenter.local/sdk: refused", "dial https://dr-svc:[redacted]@vcenter.local/sdk: refused"},
		{"Authorization: Bearer abcdef0123456789", "Authorization: [redacted] [redacted]"},
		{"sent Bearer abcdef0123456789 to it", "sent Bearer [redacted] to it"},
		{"token riparo_k3j2_MFRGGZDFMZTWQ2LK was refused", "token [redacted] was refused"},
		{`{"password":"hunter2","user":"anna"}`, `{"password":"[redacted]","user":"anna"}`},
		{`{\"webhook_secret\":\"s3cr3t\"}`, `{\"webhook_secret\":\"[redacted]\"}`},
		{"smtp password=hunter2; next", "smtp password=[redacted]; next"},
		{"hash $argon2id$v=19$m=19456,t=2,p=1$c2FsdA$aGFzaA of anna", "hash [redacted] of anna"},
		{"-----BEGIN EC PRIVATE KEY-----\nMHcC\nAQEE\n-----END EC PRIVATE KEY----- behind", "-----BEGIN EC PRIVATE KEY-----[redacted]-----END EC PRIVATE KEY----- behind"},
		{"-----BEGIN PRIVATE KEY-----\nMHcC cut short", "-----BEGIN PRIVATE KEY-----[redacted]"},
		{"AGE-SECRET-KEY-1QQPQYQ", "[redacted]"},
		{"key AKIAIOSFODNN7EXAMPLE", "key [redacted]"},
		{"AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1==;EndpointSuffix=x", "AccountKey=[redacted];EndpointSuffix=x"},
		{"GET /blob?sv=2024&sig=abc%2Fdef&se=1", "GET /blob?sv=2024&sig=[redacted]&se=1"},
	} {
		if got := Text(row.text); got != row.want {
			t.Errorf("Text(%q)\n got %q\nwant %q", row.text, got, row.want)
		}
	}
}

func TestARecordKeepsItsFormAndLosesItsSecrets(t *testing.T) {
	const record = `{"name":"anna","password_hash":"$argon2id$x","totp":{"seed":"JBSWY3DPEHPK3PXP","on":true},"has_password":true,
		"sites":[{"address":"qemu+ssh://root:opensesame@host/system","account":{"user":"dr","credential":"vCenter!42"}}],"note":"","secret":""}`
	var value any
	if err := json.Unmarshal([]byte(record), &value); err != nil {
		t.Fatal(err)
	}
	var values Values
	out, err := json.Marshal(values.Record(value))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"argon2id", "JBSWY3DPEHPK3PXP", "opensesame", "vCenter!42"} {
		if strings.Contains(string(out), secret) {
			t.Errorf("%q is still there: %s", secret, out)
		}
	}
	for _, kept := range []string{`"name":"anna"`, `"user":"dr"`, `"has_password":true`, `"secret":""`, "qemu+ssh://root:", "@host/system"} {
		if !strings.Contains(string(out), kept) {
			t.Errorf("%q is gone: %s", kept, out)
		}
	}
	// What the record gave away is found elsewhere, however it is written there.
	const line = `login as dr with vCenter!42 failed, seed JBSWY3DPEHPK3PXP`
	if got, want := values.Text(line), "login as dr with [redacted] failed, seed [redacted]"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestTheLongerOfTwoSecretsIsTakenOutAsAWhole(t *testing.T) {
	var values Values
	values.Add("correct horse", "correct horse battery", `with "quotes"`, "tiny")
	if got, want := values.Text(`a correct horse battery, a tiny one, {"x":"with \"quotes\""}`), `a [redacted], a tiny one, {"x":"[redacted]"}`; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
