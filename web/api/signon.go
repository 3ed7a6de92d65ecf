package api

import "riparo/store"

// RoleRule gives a role to those who have a value: a group, a claim.
type RoleRule struct {
	Value string     `json:"value"`
	Role  store.Role `json:"role"`
}

// OpenID is how people sign in with a service that speaks OpenID Connect.
type OpenID struct {
	Enabled   bool       `json:"enabled"`
	Label     string     `json:"label"`      // on the button
	Issuer    string     `json:"issuer"`     // https://…
	ClientID  string     `json:"client_id"`  // what the service calls this appliance
	Address   string     `json:"address"`    // of this appliance as browsers know it: https://dr.example:9443
	Scopes    []string   `json:"scopes"`     // beside openid
	NameClaim string     `json:"name_claim"` // holds the name of the account
	RoleClaim string     `json:"role_claim"` // holds what the rules are about
	Roles     []RoleRule `json:"roles"`
	CA        string     `json:"ca,omitempty"` // PEM, when the service's certificate is not of a public one

	// Secret of this appliance at the service. It is written only: read, it is empty and
	// HasSecret tells whether there is one.
	Secret    string `json:"-"`
	HasSecret bool   `json:"-"`
}

// Directory is how people sign in with an account of an LDAP directory, such as
// Active Directory.
type Directory struct {
	Enabled       bool       `json:"enabled"`
	URL           string     `json:"url"` // ldaps://host:636, or ldap://host:389 with StartTLS
	StartTLS      bool       `json:"start_tls"`
	CA            string     `json:"ca,omitempty"` // PEM
	BindDN        string     `json:"bind_dn"`      // reads the directory
	BaseDN        string     `json:"base_dn"`      // below which people are
	Filter        string     `json:"filter"`       // finds a person; {name} is what was typed
	NameAttribute string     `json:"name_attribute"`
	GroupBaseDN   string     `json:"group_base_dn"`
	GroupFilter   string     `json:"group_filter"` // finds the groups of a person; {dn} is the person
	Roles         []RoleRule `json:"roles"`        // by the DN or the common name of a group

	// Password of BindDN: written only, see [OpenID].
	Password    string `json:"-"`
	HasPassword bool   `json:"-"`
}
