package identity

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"riparo/store"
	"riparo/web/api"
)

// people of the directory: two with a group, one without, and two of one name.
const people = `dn: dc=example,dc=org
objectClass: dcObject
objectClass: organization
o: Example
dc: example

dn: ou=people,dc=example,dc=org
objectClass: organizationalUnit
ou: people

dn: ou=groups,dc=example,dc=org
objectClass: organizationalUnit
ou: groups

dn: cn=reader,dc=example,dc=org
objectClass: person
cn: reader
sn: reader
userPassword: canary-reader

dn: uid=bruno,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: bruno
cn: Bruno
sn: B
userPassword: a pass of bruno

dn: uid=carla,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: carla
cn: Carla
sn: C
userPassword: a pass of carla

dn: uid=dario,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: dario
cn: Dario
sn: D
userPassword: a pass of dario

dn: uid=anna,ou=people,dc=example,dc=org
objectClass: inetOrgPerson
uid: anna
cn: Anna of the directory
sn: A
userPassword: a pass of another anna

dn: cn=DR Operators,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: DR Operators
member: uid=bruno,ou=people,dc=example,dc=org
member: uid=carla,ou=people,dc=example,dc=org
member: uid=anna,ou=people,dc=example,dc=org

dn: cn=dr-admins,ou=groups,dc=example,dc=org
objectClass: groupOfNames
cn: dr-admins
member: uid=carla,ou=people,dc=example,dc=org
`

// slapd starts OpenLDAP on loopback with a configuration and data of its own, or
// skips the test where there is none.
func slapd(t *testing.T) (plain, secure, ca string) {
	t.Helper()
	bin, err := exec.LookPath("slapd")
	if err != nil {
		if bin, err = exec.LookPath("/usr/sbin/slapd"); err != nil {
			t.Skip("slapd is not installed")
		}
	}
	dir := t.TempDir()
	key, _ := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "slapd"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, BasicConstraintsValid: true, IsCA: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyText, _ := x509.MarshalPKCS8PrivateKey(key)
	ca = string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	certificate := write("cert.pem", ca)
	private := write("key.pem", string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyText})))
	data := filepath.Join(dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	config := write("slapd.conf", fmt.Sprintf(`include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
pidfile %[1]s/slapd.pid
argsfile %[1]s/slapd.args
TLSCertificateFile %[2]s
TLSCertificateKeyFile %[3]s
disallow bind_anon
security simple_bind=128
database mdb
suffix "dc=example,dc=org"
directory %[4]s
access to attrs=userPassword by anonymous auth by * none
access to * by dn.exact="cn=reader,dc=example,dc=org" read by * none
`, dir, certificate, private, data))
	if out, err := exec.CommandContext(t.Context(), strings.TrimSuffix(bin, "slapd")+"slapadd", "-f", config, "-l", write("people.ldif", people)).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	free := func() string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		return l.Addr().String()
	}
	plainAt, secureAt := free(), free()
	ctx, cancel := context.WithCancel(context.Background())
	c := exec.CommandContext(ctx, bin, "-f", config, "-d", "0", "-h", fmt.Sprintf("ldap://%s ldaps://%s", plainAt, secureAt))
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		c.Wait()
	})
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("tcp", secureAt)
		if err == nil {
			conn.Close()
			return "ldap://" + plainAt, "ldaps://" + secureAt, ca
		}
		if time.Now().After(deadline) {
			t.Fatalf("slapd does not answer: %v", err)
		}
		<-time.After(20 * time.Millisecond) // of another process: there is nothing to wait for but its port
	}
}

func directorySettings(address, ca string) api.Directory {
	return api.Directory{Enabled: true, URL: address, StartTLS: strings.HasPrefix(address, "ldap://"), CA: ca, BindDN: "cn=reader,dc=example,dc=org", Password: "canary-reader",
		BaseDN: "ou=people,dc=example,dc=org", Filter: "(&(objectClass=inetOrgPerson)(uid={name}))", NameAttribute: "uid", GroupBaseDN: "ou=groups,dc=example,dc=org", GroupFilter: "(&(objectClass=groupOfNames)(member={dn}))",
		Roles: []api.RoleRule{{Value: "CN=dr operators, ou=groups,dc=example,dc=org", Role: store.Operator}, {Value: "DR-Admins", Role: store.Administrator}}}
}

func TestPeopleSignInWithARealDirectory(t *testing.T) {
	plain, secure, ca := slapd(t)
	for _, address := range []string{plain, secure} {
		i, st, c := claimed(t)
		ctx := t.Context()
		if err := i.SaveDirectory(ctx, "anna", directorySettings(address, ca)); err != nil {
			t.Fatalf("%s: %v", address, err)
		}
		bruno, err := i.Login(ctx, "Bruno", "a pass of bruno", "here")
		if err != nil || bruno.Name != "bruno" || bruno.Role != store.Operator || bruno.Source != store.SourceLDAP {
			t.Errorf("%s: bruno: %+v, %v", address, bruno, err)
		}
		if carla, err := i.Login(ctx, "carla", "a pass of carla", "here"); err != nil || carla.Role != store.Administrator {
			t.Errorf("carla, of two groups: %+v, %v; want the higher role", carla, err)
		}
		if _, err := i.Login(ctx, "dario", "a pass of dario", "here"); code(err) != "signon.role" {
			t.Errorf("dario, of no group: %v", err)
		}
		// The directory's anna is not ours.
		if _, err := i.Login(ctx, "anna", "a pass of another anna", "here"); code(err) != "login.refused" {
			t.Errorf("the directory's anna: %v", err)
		}
		if u, err := i.Login(ctx, "anna", good, "here"); err != nil || u.Source != "" {
			t.Errorf("our anna: %+v, %v", u, err)
		}
		for name, password := range map[string]string{"bruno": "wrong", "nobody": "a pass of bruno", "*": "a pass of bruno", "bruno)(uid=*": "a pass of bruno", "b*": "a pass of bruno", "carla": "", "": ""} {
			if _, err := i.Login(ctx, name, password, "at "+name); code(err) != "login.refused" {
				t.Errorf("%q with %q: %v, want a refusal", name, password, err)
			}
		}
		if err := i.SetRole("anna", "bruno", store.Administrator); code(err) != "user.elsewhere" {
			t.Errorf("a role against the groups: %v", err)
		}
		if err := i.ResetPassword(ctx, "anna", "bruno", "another calm sentence"); code(err) != "user.elsewhere" {
			t.Errorf("a password of the directory reset here: %v", err)
		}
		if err := i.SetDisabled("anna", "bruno", true); err != nil {
			t.Fatal(err)
		}
		if _, err := i.Login(ctx, "bruno", "a pass of bruno", "here"); code(err) != "user.closed" {
			t.Errorf("a closed account: %v", err)
		}
		// Guesses are counted as ever.
		for range freeTries {
			i.Login(ctx, "carla", "wrong", "1.2.3.4")
		}
		if _, err := i.Login(ctx, "carla", "a pass of carla", "1.2.3.4"); code(err) != "login.locked" {
			t.Errorf("after %d wrong passwords: %v", freeTries, err)
		}
		c.pass(firstPause)
		// A session with an old role ends when the groups give another.
		session(t, i, c, "cookie", "carla")
		if _, err := store.Change(st, store.Users, "carla", func(u *store.User) error { u.Role = store.Viewer; return nil }); err != nil {
			t.Fatal(err)
		}
		if u, err := i.Login(ctx, "carla", "a pass of carla", "here"); err != nil || u.Role != store.Administrator || i.SessionAlive("cookie") {
			t.Errorf("carla with other groups: %+v, %v, her old session holds: %v", u, err, i.SessionAlive("cookie"))
		}
	}
}

func TestADirectoryThatCannotBeTrustedIsNotAsked(t *testing.T) {
	plain, secure, ca := slapd(t)
	i, st, _ := claimed(t)
	for name, row := range map[string]struct {
		change func(*api.Directory)
		want   string
	}{
		"in clear":                        {func(d *api.Directory) { d.URL, d.StartTLS = plain, false }, "signon.invalid"},
		"another certificate":             {func(d *api.Directory) { d.CA = "" }, "signon.unreachable"},
		"a wrong password of the reader":  {func(d *api.Directory) { d.Password = "wrong" }, "signon.unreachable"},
		"no password of the reader":       {func(d *api.Directory) { d.Password = "" }, "signon.invalid"},
		"a place that is not there":       {func(d *api.Directory) { d.BaseDN = "ou=nowhere,dc=example,dc=org" }, "signon.unreachable"},
		"a filter without a name":         {func(d *api.Directory) { d.Filter = "(uid=*)" }, "signon.invalid"},
		"a filter that cannot be read":    {func(d *api.Directory) { d.Filter = "(uid={name}" }, "signon.invalid"},
		"an address that is none":         {func(d *api.Directory) { d.URL = "https://dc1" }, "signon.invalid"},
		"an address with a password":      {func(d *api.Directory) { d.URL = "ldaps://a:b@dc1" }, "signon.invalid"},
		"nobody there":                    {func(d *api.Directory) { d.URL = "ldaps://127.0.0.1:1" }, "signon.unreachable"},
		"no rule that gives a role":       {func(d *api.Directory) { d.Roles = nil }, "signon.invalid"},
		"a distinguished name that's not": {func(d *api.Directory) { d.GroupBaseDN = "groups" }, "signon.invalid"},
	} {
		d := directorySettings(secure, ca)
		row.change(&d)
		if err := i.SaveDirectory(t.Context(), "anna", d); code(err) != row.want {
			t.Errorf("%s: %v, want %s", name, err, row.want)
		}
	}
	if err := i.SaveDirectory(t.Context(), "anna", directorySettings(secure, ca)); err != nil {
		t.Fatal(err)
	}
	_, got, err := i.SignOn()
	if err != nil || got.Password != "" || !got.HasPassword {
		t.Errorf("the settings: %+v, %v; want them without the password", got, err)
	}
	// The kept password goes to no other server.
	d := directorySettings("ldaps://127.0.0.1:1", ca)
	d.Password = ""
	if err := i.SaveDirectory(t.Context(), "anna", d); code(err) != "signon.invalid" {
		t.Errorf("another address with the kept password: %v", err)
	}
	st.View(func(tx *store.Tx) error {
		s, err := tx.Settings().Get(directorySetting)
		if err != nil || strings.Contains(string(s.Value), "canary-reader") {
			t.Errorf("the password is kept in clear, %v", err)
		}
		return nil
	})
	// With the directory down our own accounts get in.
	k, _ := readKept[api.Directory](st, directorySetting)
	k.Settings.URL = "ldaps://127.0.0.1:1"
	st.Update(func(tx *store.Tx) error { return tx.SetSetting(directorySetting, k) })
	if _, err := i.Login(t.Context(), "bruno", "a pass of bruno", "here"); code(err) != "signon.unreachable" {
		t.Errorf("bruno with the directory down: %v", err)
	}
	if _, err := i.Login(t.Context(), "anna", good, "here"); err != nil {
		t.Errorf("anna with the directory down: %v", err)
	}
}
