package listener

import "errors"

// errClaims is why there are no claims here.
var errClaims = errors.New("listener: claims are not supported on Windows yet: the server has to bind its address by itself")
