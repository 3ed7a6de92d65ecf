package identity

import (
	"fmt"

	"golang.org/x/crypto/argon2"
)

// weakHash is what an older or another program would have kept.
func weakHash(password string) string {
	salt := []byte("0123456789abcdef")
	key := argon2.IDKey([]byte(password), salt, 1, 8192, 1, 32)
	return fmt.Sprintf("$argon2id$v=19$m=8192,t=1,p=1$%s$%s", encoding.EncodeToString(salt), encoding.EncodeToString(key))
}
