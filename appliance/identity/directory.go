package identity

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"

	"github.com/go-ldap/ldap/v3"

	"riparo/replication"
	"riparo/store"
	"riparo/web/api"
)

// SaveDirectory keeps how people sign in with a directory, when that works.
func (i *Identity) SaveDirectory(ctx context.Context, actor string, d api.Directory) error {
	if err := i.TryDirectory(ctx, d); err != nil {
		return err
	}
	return writeKept(i, directorySetting, actor, d.Password, d, d.URL == "")
}

// TryDirectory checks settings, and asks a directory that is turned on as its reading
// account. Nothing is kept.
func (i *Identity) TryDirectory(ctx context.Context, d api.Directory) error {
	if err := checkDirectory(d); err != nil || !d.Enabled {
		return err
	}
	password := d.Password
	if password == "" {
		old, err := readKept[api.Directory](i.store, directorySetting)
		if err != nil {
			return err
		}
		if old.Settings.URL != d.URL && len(old.Sealed) > 0 { // it is not sent to another server unasked
			return invalidSignOn("the password of the reading account is needed for another address")
		}
		if password, err = i.secretOf(directorySetting, old.Sealed); err != nil {
			return err
		}
	}
	conn, err := i.bindDirectory(ctx, d, password)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := search(conn, d.BaseDN, ldap.ScopeBaseObject, "(objectClass=*)", "1.1"); err != nil {
		return unreachableService("the directory", fmt.Errorf("look at %s: %w", d.BaseDN, err))
	}
	return nil
}

func checkDirectory(d api.Directory) error {
	if !d.Enabled && d.URL == "" {
		return nil
	}
	u, err := url.Parse(d.URL)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != "ldaps" && u.Scheme != "ldap" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "":
		return invalidSignOn(fmt.Sprintf("%q is not the address of a directory, such as ldaps://dc1.example", d.URL))
	case u.Scheme == "ldap" && !d.StartTLS:
		return invalidSignOn("passwords would cross the network in clear: use ldaps://, or turn StartTLS on")
	case d.BindDN == "" || d.BaseDN == "" || d.GroupBaseDN == "":
		return invalidSignOn("the account that reads the directory and the places of people and groups are needed")
	case !strings.Contains(d.Filter, "{name}") || !strings.Contains(d.GroupFilter, "{dn}") || d.NameAttribute == "":
		return invalidSignOn("the filter of people needs {name}, that of groups {dn}, and the name an attribute")
	}
	for _, filter := range []string{strings.ReplaceAll(d.Filter, "{name}", "x"), strings.ReplaceAll(d.GroupFilter, "{dn}", "x")} {
		if _, err := ldap.CompileFilter(filter); err != nil {
			return invalidSignOn(fmt.Sprintf("the filter %s cannot be read: %v", filter, err))
		}
	}
	for _, dn := range []string{d.BindDN, d.BaseDN, d.GroupBaseDN} {
		if _, err := ldap.ParseDN(dn); err != nil && !strings.Contains(dn, "@") && !strings.Contains(dn, `\`) { // Active Directory also takes user@domain
			return invalidSignOn(fmt.Sprintf("%q is not a distinguished name", dn))
		}
	}
	if _, err := serviceTLS(d.CA, ""); err != nil {
		return err
	}
	return checkRules(d.Roles)
}

// dialDirectory opens a connection that is encrypted and whose certificate was
// checked, or none.
func dialDirectory(ctx context.Context, d api.Directory) (*ldap.Conn, error) {
	u, err := url.Parse(d.URL)
	if err != nil {
		return nil, err
	}
	config, err := serviceTLS(d.CA, u.Hostname())
	if err != nil {
		return nil, err
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"ldaps": "636", "ldap": "389"}[u.Scheme]
	}
	dialer := net.Dialer{Timeout: serviceTime}
	raw, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(u.Hostname(), port))
	if err != nil {
		return nil, err
	}
	if u.Scheme == "ldaps" {
		secure := tls.Client(raw, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			raw.Close()
			return nil, err
		}
		raw = secure
	}
	conn := ldap.NewConn(raw, u.Scheme == "ldaps")
	conn.SetTimeout(serviceTime)
	conn.Start()
	if u.Scheme == "ldap" {
		if err := conn.StartTLS(config); err != nil {
			conn.Close()
			return nil, err
		}
	}
	return conn, nil
}

// bindDirectory opens a connection as the account that reads the directory.
func (i *Identity) bindDirectory(ctx context.Context, d api.Directory, password string) (*ldap.Conn, error) {
	ctx, cancel := bounded(ctx)
	defer cancel()
	conn, err := dialDirectory(ctx, d)
	if err != nil {
		return nil, unreachableService("the directory", err)
	}
	if password == "" { // LDAP takes that for an anonymous bind and says yes
		conn.Close()
		return nil, invalidSignOn("the account that reads the directory has no password")
	}
	if err := conn.Bind(d.BindDN, password); err != nil {
		conn.Close()
		return nil, unreachableService("the directory", fmt.Errorf("sign in as %s: %w", d.BindDN, err))
	}
	return conn, nil
}

// maxGroups bounds what is read of one person.
const maxGroups = 1000

func search(conn *ldap.Conn, base string, scope int, filter string, attributes ...string) ([]*ldap.Entry, error) {
	r, err := conn.Search(ldap.NewSearchRequest(base, scope, ldap.NeverDerefAliases, maxGroups, int(serviceTime.Seconds()), false, filter, attributes, nil))
	if err != nil {
		return nil, err
	}
	return r.Entries, nil
}

// errNobody is a person whom the directory does not know, or whose password is
// wrong: it is not told which.
var errNobody = errors.New("the directory does not know them so")

// askDirectory checks a name and a password against the directory.
func (i *Identity) askDirectory(ctx context.Context, k kept[api.Directory], name, password string) (stranger, error) {
	d := k.Settings
	if strings.TrimSpace(name) == "" || password == "" { // an empty password would be an anonymous bind: yes to everybody
		return stranger{}, errNobody
	}
	secret, err := i.secretOf(directorySetting, k.Sealed)
	if err != nil {
		return stranger{}, err
	}
	reader, err := i.bindDirectory(ctx, d, secret)
	if err != nil {
		return stranger{}, err
	}
	defer reader.Close()
	people, err := search(reader, d.BaseDN, ldap.ScopeWholeSubtree, strings.ReplaceAll(d.Filter, "{name}", ldap.EscapeFilter(name)), d.NameAttribute)
	if ldap.IsErrorWithCode(err, ldap.LDAPResultSizeLimitExceeded) {
		err, people = nil, nil
	}
	if err != nil {
		return stranger{}, unreachableService("the directory", fmt.Errorf("look for a person: %w", err))
	}
	if len(people) != 1 { // nobody, or it is not clear who
		return stranger{}, errNobody
	}
	person := people[0]
	bounded, cancel := bounded(ctx)
	defer cancel()
	own, err := dialDirectory(bounded, d)
	if err != nil {
		return stranger{}, unreachableService("the directory", err)
	}
	defer own.Close()
	if err := own.Bind(person.DN, password); err != nil {
		if ldap.IsErrorAnyOf(err, ldap.LDAPResultInvalidCredentials, ldap.LDAPResultInappropriateAuthentication, ldap.LDAPResultUnwillingToPerform, ldap.LDAPResultConstraintViolation) {
			return stranger{}, errNobody
		}
		return stranger{}, unreachableService("the directory", fmt.Errorf("sign in as %s: %w", person.DN, err))
	}
	groups, err := search(reader, d.GroupBaseDN, ldap.ScopeWholeSubtree, strings.ReplaceAll(d.GroupFilter, "{dn}", ldap.EscapeFilter(person.DN)), "cn")
	if err != nil {
		return stranger{}, unreachableService("the directory", fmt.Errorf("look for the groups of %s: %w", person.DN, err))
	}
	s := stranger{source: store.SourceLDAP, subject: person.DN, name: person.GetAttributeValue(d.NameAttribute)}
	role, ok := roleOf(d.Roles, func(value string) bool { return inGroup(groups, value) })
	if s.role = role; !ok {
		return s, noRole(s.name)
	}
	return s, nil
}

// inGroup reports whether a rule's value names one of the groups, by its DN or its
// common name.
func inGroup(groups []*ldap.Entry, value string) bool {
	want, err := ldap.ParseDN(value)
	for _, g := range groups {
		if err == nil && len(want.RDNs) > 0 && strings.Contains(value, "=") {
			if dn, err := ldap.ParseDN(g.DN); err == nil && dn.EqualFold(want) {
				return true
			}
			continue
		}
		if strings.EqualFold(g.GetAttributeValue("cn"), value) {
			return true
		}
	}
	return false
}

// loginDirectory signs somebody in with the directory. used is false when the
// directory is turned off.
func (i *Identity) loginDirectory(ctx context.Context, name, password, address string) (user store.User, used bool, err error) {
	k, err := readKept[api.Directory](i.store, directorySetting)
	if err != nil || !k.Settings.Enabled {
		return user, false, err
	}
	s, err := i.askDirectory(ctx, k, name, password)
	if err != nil {
		if p := replication.AsProblem(err); p != nil && p.Code == "signon.unreachable" {
			i.log.Error("the directory cannot be asked", "error", err)
		}
		return user, true, err
	}
	user, err = i.admit(s, address)
	return user, true, err
}
