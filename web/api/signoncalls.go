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
	SaveOpenID(ctx context.Context, actor string, o OpenID) error
	SaveDirectory(ctx context.Context, actor string, d Directory) error
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
			return answer(Done{true}, a.Identity.SaveOpenID(ctx, callerOf(ctx).Name, o))
		})
	add(a, operation{id: "save-directory", method: "PUT", path: "/api/v1/sign-in/directory", tag: tag, summary: "Let people sign in with an LDAP directory; it is asked first"},
		func(ctx context.Context, in *directoryInput) (*body[Done], error) {
			d := in.Body.Directory
			d.Password = in.Body.Password
			return answer(Done{true}, a.Identity.SaveDirectory(ctx, callerOf(ctx).Name, d))
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
