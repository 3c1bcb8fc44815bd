package control

import (
	"crypto/sha256"
	"crypto/subtle"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
)

const (
	maxBody       = 64 << 10 // bytes of a form
	maxParameters = 100
)

// admit checks that r may be answered at all, and gives its parameters. An
// error has been answered.
func (h *HTTP) admit(w http.ResponseWriter, r *http.Request) (url.Values, *Error, int) {
	head := w.Header()
	head.Set("Cache-Control", "no-store")
	head.Set("X-Content-Type-Options", "nosniff")
	if h.loopback && !h.ownHost(r.Host) {
		return nil, &Error{CodeForbidden, "the Host of the request is not this upgrader's"}, http.StatusForbidden
	}
	if !sameSite(r) {
		return nil, &Error{CodeForbidden, "requests of other sites are not answered"}, http.StatusForbidden
	}
	if h.config.Token != "" && r.URL.Path != "/healthz" && !bears(r, h.config.Token) {
		head.Set("WWW-Authenticate", "Bearer")
		return nil, &Error{CodeForbidden, "the request does not show the token"}, http.StatusUnauthorized
	}
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodPost:
	default:
		head.Set("Allow", "GET, POST")
		return nil, &Error{CodeBadRequest, "methods are GET and POST"}, http.StatusMethodNotAllowed
	}
	if r.Method == http.MethodHead && r.URL.Path != "/healthz" { // whoever only wants to look must not restart
		head.Set("Allow", "GET, POST")
		return nil, &Error{CodeBadRequest, "methods are GET and POST"}, http.StatusMethodNotAllowed
	}
	if r.ContentLength != 0 { // -1: not known
		media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
		if err != nil || media != "application/x-www-form-urlencoded" || r.Method != http.MethodPost {
			return nil, &Error{CodeBadRequest, "a body has to be a form (application/x-www-form-urlencoded), and posted"}, http.StatusUnsupportedMediaType
		}
	}
	r.Body = http.MaxBytesReader(w, r.Body, maxBody)
	if err := r.ParseForm(); err != nil {
		return nil, &Error{CodeBadRequest, "the parameters are not understood"}, http.StatusBadRequest
	}
	if len(r.Form) > maxParameters {
		return nil, &Error{CodeBadRequest, "there are too many parameters"}, http.StatusBadRequest
	}
	return r.Form, nil, 0
}

// ownHost reports whether a Host header can be meant for us on loopback. A
// name that somebody else's DNS points at 127.0.0.1 cannot. The port is not
// looked at: it may have been forwarded.
func (h *HTTP) ownHost(host string) bool {
	name := host
	if n, _, err := net.SplitHostPort(host); err == nil {
		name = n
	}
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if name == "localhost" || slices.ContainsFunc(h.config.Hosts, func(s string) bool { return strings.EqualFold(s, name) }) {
		return true
	}
	ip, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(name, "["), "]"))
	return err == nil && ip.Unmap().IsLoopback()
}

// sameSite reports whether nothing tells that a page of another site is
// behind r.
func sameSite(r *http.Request) bool {
	switch r.Header.Get("Sec-Fetch-Site") {
	case "", "same-origin", "none": // none: a person typed it
	default:
		return false
	}
	for _, key := range []string{"Origin", "Referer"} {
		for _, v := range r.Header.Values(key) {
			u, err := url.Parse(v)
			if err != nil || !strings.EqualFold(u.Host, r.Host) || u.Host == "" {
				return false
			}
		}
	}
	return true
}

// bears reports whether r shows the token. How long it takes tells nothing
// about the token.
func bears(r *http.Request, token string) bool {
	scheme, shown, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	a, b := sha256.Sum256([]byte(strings.TrimSpace(shown))), sha256.Sum256([]byte(token))
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1 && strings.EqualFold(scheme, "Bearer")
}
