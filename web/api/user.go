package api

import (
	"context"
	"net/http"
	"time"

	"riparo/store"
)

// People are the accounts of others, as an administrator changes them. What would take
// the appliance from an administrator, or give it to another, is a problem
// "approval.needed" at first: it is done when another administrator approves it.
type People interface {
	AddUser(ctx context.Context, who Who, name, password string, role store.Role) error
	ChangeUser(ctx context.Context, who Who, name string, c UserChange) error
	// SaveSecondRule says which roles have to have a second factor.
	SaveSecondRule(ctx context.Context, who Who, roles []store.Role) error
	SignOnSaving
}

// Kinds of a UserChange.
const (
	UserRole     = "role"     // Role is the new one
	UserDisable  = "disable"  // the account is closed
	UserEnable   = "enable"   // and opened again
	UserPassword = "password" // Password is the first one of a new series
	UserSecond   = "second"   // one-time codes and passkeys are gone
	UserRemove   = "remove"
)

// UserChange is what is to become of an account.
type UserChange struct {
	Kind     string
	Role     store.Role
	Password string
}

// User is an account, without its secrets.
type User struct {
	Name       string     `json:"name"`
	Role       store.Role `json:"role"`
	Source     string     `json:"source,omitempty" doc:"Who knows the person: empty is this appliance, else ldap or oidc."`
	Language   string     `json:"language,omitempty"`
	Created    time.Time  `json:"created"`
	LastLogin  time.Time  `json:"last_login,omitzero"`
	Disabled   bool       `json:"disabled"`
	MustChange bool       `json:"must_change" doc:"The password was set by somebody else and has to be changed first."`
	Codes      bool       `json:"codes" doc:"Signs in with one-time codes beside the password."`
	Passkeys   int        `json:"passkeys"`
}

// NewUser asks for an account.
type NewUser struct {
	Name     string     `json:"name" minLength:"1" maxLength:"64"`
	Password string     `json:"password" minLength:"12" maxLength:"1024" doc:"The first one: it has to be changed with the first sign-in."`
	Role     store.Role `json:"role" enum:"viewer,auditor,operator,recovery operator,administrator"`
}

// RoleBody is a role.
type RoleBody struct {
	Role store.Role `json:"role" enum:"viewer,auditor,operator,recovery operator,administrator"`
}

// PasswordBody is a password.
type PasswordBody struct {
	Password string `json:"password" minLength:"12" maxLength:"1024"`
}

// SecondRule says whose accounts have to have a second factor.
type SecondRule struct {
	Roles []store.Role `json:"roles" nullable:"false" maxItems:"5" doc:"Those with such a role can do nothing before they have one."`
}

// userOf is an account as the API shows it.
func userOf(u store.User) User {
	return User{Name: u.Name, Role: u.Role, Source: u.Source, Language: u.Language, Created: u.Created, LastLogin: u.LastLogin, Disabled: u.Disabled,
		MustChange: u.MustChange, Codes: u.Second != nil, Passkeys: len(u.Passkeys)}
}

type userInput struct {
	Name string `path:"name" maxLength:"64"`
}

type newUserInput struct{ Body NewUser }

type roleInput struct {
	Name string `path:"name" maxLength:"64"`
	Body RoleBody
}

type passwordInput struct {
	Name string `path:"name" maxLength:"64"`
	Body PasswordBody
}

type secondRuleInput struct{ Body SecondRule }

// users are the calls about accounts and their sessions.
func (a *API) users() {
	const tag = "People"
	add(a, operation{id: "list-users", method: "GET", path: "/api/v1/users", tag: tag, summary: "All accounts, without their secrets"},
		func(context.Context, *none) (*body[[]User], error) {
			users, err := a.Identity.Users()
			list := []User{}
			for _, u := range users {
				list = append(list, userOf(u))
			}
			return answer(list, err)
		})
	add(a, operation{id: "add-user", method: "POST", path: "/api/v1/users", tag: tag, summary: "Make an account; as an administrator only while there is one administrator", status: http.StatusCreated},
		func(ctx context.Context, in *newUserInput) (*body[Done], error) {
			b := in.Body
			AuditOf(ctx).Object = b.Name
			return answer(Done{true}, a.Appliance.AddUser(ctx, whoOf(ctx), b.Name, b.Password, b.Role))
		})
	add(a, operation{id: "get-user", method: "GET", path: "/api/v1/users/{name}", tag: tag, summary: "One account"},
		func(_ context.Context, in *userInput) (*body[User], error) {
			u, err := a.Identity.User(in.Name)
			return answer(userOf(u), err)
		})
	add(a, operation{id: "set-role", method: "PUT", path: "/api/v1/users/{name}/role", tag: tag, summary: "Give an account another role; takes four eyes when it is or becomes an administrator's"},
		func(ctx context.Context, in *roleInput) (*body[Done], error) {
			return a.changeUser(ctx, in.Name, UserChange{Kind: UserRole, Role: in.Body.Role})
		})
	add(a, operation{id: "reset-password", method: "POST", path: "/api/v1/users/{name}/reset-password", tag: tag, summary: "Give an account another first password; takes four eyes when it is an administrator's"},
		func(ctx context.Context, in *passwordInput) (*body[Done], error) {
			return a.changeUser(ctx, in.Name, UserChange{Kind: UserPassword, Password: in.Body.Password})
		})
	for _, o := range []struct{ id, method, path, kind, summary string }{
		{"disable-user", "POST", "/disable", UserDisable, "Close an account; takes four eyes when it is an administrator's"},
		{"enable-user", "POST", "/enable", UserEnable, "Open a closed account again; takes four eyes when it is an administrator's"},
		{"reset-second-factor", "POST", "/reset-second-factor", UserSecond, "Take one-time codes and passkeys from an account that has lost them; takes four eyes"},
		{"remove-user", "DELETE", "", UserRemove, "End an account; takes four eyes when it is an administrator's"},
	} {
		add(a, operation{id: o.id, method: o.method, path: "/api/v1/users/{name}" + o.path, tag: tag, summary: o.summary},
			func(ctx context.Context, in *userInput) (*body[Done], error) {
				return a.changeUser(ctx, in.Name, UserChange{Kind: o.kind})
			})
	}
	add(a, operation{id: "list-sessions", method: "GET", path: "/api/v1/sessions", tag: tag, summary: "The browsers that are signed in, the newest first"},
		func(context.Context, *none) (*body[[]Session], error) {
			list, err := a.Identity.SessionList("", "")
			return answer(append([]Session{}, list...), err)
		})
	add(a, operation{id: "end-session", method: "DELETE", path: "/api/v1/sessions/{id}", tag: tag, summary: "End a session"},
		func(ctx context.Context, in *idInput) (*body[Done], error) {
			name, err := a.Identity.EndSession(in.ID, "")
			AuditOf(ctx).Object = name
			return answer(Done{true}, err)
		})
	add(a, operation{id: "get-second-rule", method: "GET", path: "/api/v1/sign-in/second-factor", tag: tag, summary: "Which roles have to have a second factor"},
		func(context.Context, *none) (*body[SecondRule], error) {
			roles, err := a.Identity.SecondRule()
			return answer(SecondRule{append([]store.Role{}, roles...)}, err)
		})
	add(a, operation{id: "save-second-rule", method: "PUT", path: "/api/v1/sign-in/second-factor", tag: tag, summary: "Say which roles have to have a second factor"},
		func(ctx context.Context, in *secondRuleInput) (*body[Done], error) {
			return answer(Done{true}, a.Appliance.SaveSecondRule(ctx, whoOf(ctx), in.Body.Roles))
		})
}

// changeUser changes an account, and tells the audit log whose.
func (a *API) changeUser(ctx context.Context, name string, c UserChange) (*body[Done], error) {
	AuditOf(ctx).Object = name
	AuditOf(ctx).Change(nil, map[string]any{"change": c.Kind, "role": c.Role})
	return answer(Done{true}, a.Appliance.ChangeUser(ctx, whoOf(ctx), name, c))
}

// Users lists the accounts.
func (c *Client) Users(ctx context.Context) ([]User, error) {
	return get[[]User](ctx, c, "/api/v1/users", nil)
}

// User gives one account.
func (c *Client) User(ctx context.Context, name string) (User, error) {
	return get[User](ctx, c, "/api/v1/users/"+segment(name), nil)
}

// AddUser makes an account.
func (c *Client) AddUser(ctx context.Context, u NewUser) error {
	return c.call(ctx, http.MethodPost, "/api/v1/users", nil, u, nil)
}

// ChangeUser changes an account.
func (c *Client) ChangeUser(ctx context.Context, name string, u UserChange) error {
	path := "/api/v1/users/" + segment(name)
	switch u.Kind {
	case UserRole:
		return c.call(ctx, http.MethodPut, path+"/role", nil, RoleBody{u.Role}, nil)
	case UserPassword:
		return c.call(ctx, http.MethodPost, path+"/reset-password", nil, PasswordBody{u.Password}, nil)
	case UserSecond:
		return c.call(ctx, http.MethodPost, path+"/reset-second-factor", nil, nil, nil)
	case UserRemove:
		return c.call(ctx, http.MethodDelete, path, nil, nil, nil)
	}
	return c.call(ctx, http.MethodPost, path+"/"+segment(u.Kind), nil, nil, nil)
}

// Sessions lists the browsers that are signed in.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	return get[[]Session](ctx, c, "/api/v1/sessions", nil)
}

// EndSession ends a session.
func (c *Client) EndSession(ctx context.Context, id string) error {
	return c.call(ctx, http.MethodDelete, "/api/v1/sessions/"+segment(id), nil, nil, nil)
}

// SecondRule gives the roles that have to have a second factor.
func (c *Client) SecondRule(ctx context.Context) (SecondRule, error) {
	return get[SecondRule](ctx, c, "/api/v1/sign-in/second-factor", nil)
}

// SaveSecondRule says which roles have to have a second factor.
func (c *Client) SaveSecondRule(ctx context.Context, roles []store.Role) error {
	return c.call(ctx, http.MethodPut, "/api/v1/sign-in/second-factor", nil, SecondRule{append([]store.Role{}, roles...)}, nil)
}
