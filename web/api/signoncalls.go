package api

import (
	"context"
	"net/http"
)

// SignIn is how people sign in besides with accounts of the appliance. Secrets are not
// in it; an empty one that is written leaves the one there is.
type SignIn struct {
	OpenID    OpenID    `json:"openid"`
	Directory Directory `json:"directory"`
}

// OpenIDBody is an OpenID with its secret, which is written only.
type OpenIDBody struct {
	OpenID
	Secret string `json:"secret,omitempty" maxLength:"1024"`
}

// DirectoryBody is a Directory with its password, which is written only.
type DirectoryBody struct {
	Directory
	Password string `json:"password,omitempty" maxLength:"1024"`
}

type openIDInput struct{ Body OpenIDBody }
type directoryInput struct{ Body DirectoryBody }

// SignOnSettings is what the API asks about sign-in services.
type SignOnSettings interface {
	SignOn() (OpenID, Directory, error)
	// TryOpenID and TryDirectory ask a service, and keep nothing. An empty secret is the
	// one that is kept.
	TryOpenID(ctx context.Context, o OpenID) error
	TryDirectory(ctx context.Context, d Directory) error
}

// SignOnSaving changes sign-in services. What changes who they make an administrator is
// a problem "approval.needed" at first: it is done when another administrator approves.
type SignOnSaving interface {
	SaveOpenID(ctx context.Context, who Who, o OpenID) error
	SaveDirectory(ctx context.Context, who Who, d Directory) error
}

// signIn are the calls about sign-in services.
func (a *API) signIn() {
	const tag = "People"
	add(a, operation{id: "get-sign-in", method: "GET", path: "/api/v1/sign-in", tag: tag, summary: "The sign-in services, without their secrets"},
		func(context.Context, *none) (*body[SignIn], error) {
			o, d, err := a.Identity.SignOn()
			o.Scopes, o.Roles, d.Roles = append([]string{}, o.Scopes...), append([]RoleRule{}, o.Roles...), append([]RoleRule{}, d.Roles...)
			return answer(SignIn{o, d}, err)
		})
	add(a, operation{id: "save-openid", method: "PUT", path: "/api/v1/sign-in/openid", tag: tag, summary: "Let people sign in by OpenID Connect; the service is asked first"},
		func(ctx context.Context, in *openIDInput) (*body[Done], error) {
			o := in.Body.OpenID
			o.Secret = in.Body.Secret
			return answer(Done{true}, a.Appliance.SaveOpenID(ctx, whoOf(ctx), o))
		})
	add(a, operation{id: "save-directory", method: "PUT", path: "/api/v1/sign-in/directory", tag: tag, summary: "Let people sign in with an LDAP directory; it is asked first"},
		func(ctx context.Context, in *directoryInput) (*body[Done], error) {
			d := in.Body.Directory
			d.Password = in.Body.Password
			return answer(Done{true}, a.Appliance.SaveDirectory(ctx, whoOf(ctx), d))
		})
	add(a, operation{id: "test-openid", method: "POST", path: "/api/v1/sign-in/openid/test", tag: tag, summary: "Ask the OpenID Connect service that is kept"},
		func(ctx context.Context, _ *none) (*body[Done], error) {
			o, _, err := a.Identity.SignOn()
			if o.Enabled = true; err == nil {
				err = a.Identity.TryOpenID(ctx, o)
			}
			return answer(Done{true}, err)
		})
	add(a, operation{id: "test-directory", method: "POST", path: "/api/v1/sign-in/directory/test", tag: tag, summary: "Ask the directory that is kept"},
		func(ctx context.Context, _ *none) (*body[Done], error) {
			_, d, err := a.Identity.SignOn()
			if d.Enabled = true; err == nil {
				err = a.Identity.TryDirectory(ctx, d)
			}
			return answer(Done{true}, err)
		})
}

// SignIn gives the sign-in services.
func (c *Client) SignIn(ctx context.Context) (SignIn, error) {
	return get[SignIn](ctx, c, "/api/v1/sign-in", nil)
}

// SaveOpenID saves the OpenID Connect service.
func (c *Client) SaveOpenID(ctx context.Context, o OpenID) error {
	return c.call(ctx, http.MethodPut, "/api/v1/sign-in/openid", nil, OpenIDBody{o, o.Secret}, nil)
}

// SaveDirectory saves the directory.
func (c *Client) SaveDirectory(ctx context.Context, d Directory) error {
	return c.call(ctx, http.MethodPut, "/api/v1/sign-in/directory", nil, DirectoryBody{d, d.Password}, nil)
}

// TestSignIn asks a sign-in service that is kept: "openid" or "directory".
func (c *Client) TestSignIn(ctx context.Context, service string) error {
	return c.call(ctx, http.MethodPost, "/api/v1/sign-in/"+segment(service)+"/test", nil, nil, nil)
}
