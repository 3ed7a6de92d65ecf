package certificate

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"riparo/replication"
)

func refused(cause, action string, err error) error {
	return &replication.Problem{Code: "certificate.refused", Cause: cause, Effect: "the certificate stays as it was", Action: action, Remedy: replication.Stop, Err: err}
}

// Judge reports what keeps a certificate and its key from being used by the console
// that people reach under one of the names; nil: nothing.
func Judge(certPEM, keyPEM string, names []string, now time.Time) error {
	chain, key, err := parse(certPEM, keyPEM)
	if err != nil {
		return err
	}
	leaf := chain[0]
	public, ok := key.Public().(interface{ Equal(crypto.PublicKey) bool })
	if !ok || !public.Equal(leaf.PublicKey) {
		return refused("the key is not the one of this certificate", "give the key that the certificate was made with; when there are several certificates, the console's own comes first", nil)
	}
	switch {
	case now.After(leaf.NotAfter):
		return refused("the certificate has expired on "+leaf.NotAfter.UTC().Format(time.DateOnly), "give one that is valid today", nil)
	case now.Before(leaf.NotBefore):
		return refused("the certificate is not valid before "+leaf.NotBefore.UTC().Format(time.DateOnly), "wait for that day, or see that the clock of the appliance is right", nil)
	case leaf.IsCA:
		return refused("it is the certificate of an authority", "give the certificate that the authority issued for this appliance, first in the file", nil)
	case len(leaf.ExtKeyUsage) > 0 && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageServerAuth) && !slices.Contains(leaf.ExtKeyUsage, x509.ExtKeyUsageAny):
		return refused("the certificate is not for a server", "give one that was issued for server authentication", nil)
	}
	if k, weak := leaf.PublicKey.(*rsa.PublicKey); weak && k.N.BitLen() < 2048 {
		return refused(fmt.Sprintf("the key of the certificate has only %d bits", k.N.BitLen()), "give one with 2048 bits or more, or with an elliptic curve", nil)
	}
	if !slices.ContainsFunc(names, func(name string) bool { return leaf.VerifyHostname(name) == nil }) {
		is := append(slices.Clone(leaf.DNSNames), addresses(leaf)...)
		return refused(fmt.Sprintf("the certificate is for %s, and the console is reached as %s", listed(is), listed(names)),
			"give one for that name, or open the console under the name that the certificate is for", nil)
	}
	for i := 1; i < len(chain); i++ {
		if err := chain[i-1].CheckSignatureFrom(chain[i]); err != nil {
			return refused(fmt.Sprintf("certificate %d of the file did not issue the one before it", i+1), "put the certificates in order: the console's own, then the one that issued it, and so on", err)
		}
	}
	return nil
}

func addresses(c *x509.Certificate) (list []string) {
	for _, ip := range c.IPAddresses {
		list = append(list, ip.String())
	}
	return list
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nobody"
	}
	return strings.Join(names, ", ")
}

// parse reads a chain and a key.
func parse(certPEM, keyPEM string) (chain []*x509.Certificate, key crypto.Signer, err error) {
	for rest := []byte(certPEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, nil, refused("the certificate cannot be read: "+err.Error(), "give it as PEM, as the authority issued it", err)
		}
		chain = append(chain, c)
	}
	if len(chain) == 0 {
		return nil, nil, refused("the text holds no certificate", "give it as PEM, beginning with -----BEGIN CERTIFICATE-----", nil)
	}
	for rest := []byte(keyPEM); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return nil, nil, refused("the text holds no private key", "give it as PEM, beginning with -----BEGIN PRIVATE KEY-----", nil)
		}
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || block.Headers["DEK-Info"] != "" {
			return nil, nil, refused("the private key is locked with a password", "give it without one: openssl pkey -in KEY -out PLAIN", nil)
		}
		if key, err = parseKey(block.Bytes); err != nil {
			return nil, nil, refused("the private key cannot be read: "+err.Error(), "give it as PKCS #8, PKCS #1 or SEC 1", err)
		}
		return chain, key, nil
	}
}

func parseKey(der []byte) (crypto.Signer, error) {
	if key, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		switch k := key.(type) {
		case *ecdsa.PrivateKey:
			return k, nil
		case *rsa.PrivateKey:
			return k, nil
		case ed25519.PrivateKey:
			return k, nil
		}
		return nil, errors.New("its kind is not known")
	}
	if key, err := x509.ParseECPrivateKey(der); err == nil {
		return key, nil
	}
	return x509.ParsePKCS1PrivateKey(der)
}
