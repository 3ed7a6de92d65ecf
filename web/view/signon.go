package view

// SignOn is the page of the services that know people.
type SignOn struct {
	OpenID    OpenIDForm
	Directory DirectoryForm
}

// OpenIDForm is how people sign in with OpenID Connect.
type OpenIDForm struct {
	Enabled, HasSecret                                                              bool
	Label, Issuer, ClientID, Address, Scopes, NameClaim, RoleClaim, Rules, CA, Back string
	Message                                                                         *Message
}

// DirectoryForm is how people sign in with a directory.
type DirectoryForm struct {
	Enabled, StartTLS, HasPassword                                                  bool
	URL, BindDN, BaseDN, Filter, NameAttribute, GroupBaseDN, GroupFilter, Rules, CA string
	Message                                                                         *Message
}
