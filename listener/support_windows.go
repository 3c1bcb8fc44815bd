package listener

import (
	"errors"
	"fmt"
)

// errClaims is why there are no claims here.
var errClaims = fmt.Errorf("listener: claims are not supported on Windows yet: the server has to bind its address by itself: %w", errors.ErrUnsupported)
