package api

import (
	"context"
	"fmt"
	"io"
	"net/http"

	"riparo/store/bundle"
)

// SupportParts says what a support bundle would have.
func (c *Client) SupportParts(ctx context.Context) ([]bundle.Part, error) {
	return get[[]bundle.Part](ctx, c, "/api/v1/support-bundle/parts", nil)
}

// SupportBundle writes a support bundle, a ZIP file, to w.
func (c *Client) SupportBundle(ctx context.Context, w io.Writer) error {
	response, err := c.send(ctx, http.MethodGet, "/api/v1/support-bundle", nil, nil)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if _, err := io.Copy(w, response.Body); err != nil {
		return fmt.Errorf("receive the support bundle: %w", err)
	}
	return nil
}
