package ready

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"time"
)

// httpTry sends a GET on a connection of its own and looks at the status: 2xx
// and 3xx hold. Where a redirect leads is not followed: that it is given is
// the answer. No proxy is asked, whatever the environment says. A certificate
// is not checked: the probe asks whether the server at this address answers,
// and its certificate is for the name that clients use.
func httpTry(url string, o *Options) try {
	dial := o.dialer()
	return func(ctx context.Context) error {
		transport := &http.Transport{
			Proxy: nil,
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				ctx, cancel := context.WithTimeout(ctx, connectTime)
				defer cancel()
				return dial(ctx, network, address)
			},
			TLSClientConfig:        &tls.Config{InsecureSkipVerify: true},
			TLSHandshakeTimeout:    3 * time.Second,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
		}
		defer transport.CloseIdleConnections()
		client := http.Client{
			Transport:     transport,
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		}
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return hopeless{err}
		}
		r.Header.Set("User-Agent", "upgrader-probe")
		a, err := client.Do(r)
		if err != nil {
			return err
		}
		_ = a.Body.Close() // only the status matters
		if a.StatusCode < 200 || a.StatusCode > 399 {
			return fmt.Errorf("answered %s", a.Status)
		}
		return nil
	}
}
