package guest

import (
	"context"
	"errors"
)

// Turn is not offered: the guest is built and booted on Linux.
func Turn(context.Context) (release func(), err error) {
	return nil, errors.New("test guests are not booted on Windows")
}
