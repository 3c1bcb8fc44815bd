package listener

// State is what must be known of a Set to adopt its lanes after the upgrader was killed.
// It is plain data, made for JSON.
type State struct {
	Boot   string       `json:"boot,omitempty"` // which run of the kernel the cookies are of
	Claims []ClaimState `json:"claims"`
}

// ClaimState is one claim of a State.
type ClaimState struct {
	Name     string      `json:"name,omitempty"`
	Spec     string      `json:"spec,omitempty"`     // the address as given; empty for a claim that came of a guest's own bind
	Network  string      `json:"network"`            // tcp, udp, unix or unixgram
	Addr     string      `json:"addr"`               // host:port with the real port, or the path
	Family   int         `json:"family,omitempty"`   // AF_INET or AF_INET6
	V6Only   bool        `json:"v6only,omitempty"`   // IPV6_V6ONLY
	Scope    uint32      `json:"scope,omitempty"`    // interface of a link-local address
	Explicit bool        `json:"explicit,omitempty"` // held until Close
	Serving  int         `json:"serving"`            // the generation that new connections go to; -1: none yet
	Owner    *uint32     `json:"owner,omitempty"`    // user of a socket that somebody else made
	Lanes    []LaneState `json:"lanes"`              // in the order of the kernel's group
}

// LaneState is one lane of a ClaimState.
type LaneState struct {
	Generation int      `json:"generation"` // 0: not handed to any yet
	Cookie     uint64   `json:"cookie"`     // SO_COOKIE: never given twice while the system is up
	Inode      uint64   `json:"inode"`
	MPTCP      bool     `json:"mptcp,omitempty"`
	Name       string   `json:"name,omitempty"` // a unix lane's own name in the directory of the path
	Blocking   bool     `json:"blocking,omitempty"`
	Options    []Option `json:"options,omitempty"`
}
