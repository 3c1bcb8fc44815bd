package control

// addStore adds what is known of the store.
func (x *exposition) addStore(st Status, labels func(...string) []string) {
	if st.Store == nil {
		return
	}
	x.family("upgrader_parked_descriptors_max", "gauge", "As many descriptors as may be in the store.").add(float64(st.Store.Max), labels()...)
	x.family("upgrader_parked_refused_total", "counter", "Descriptors that could not be parked.").add(float64(st.Store.Refused), labels()...)
	x.family("upgrader_parked_dropped_total", "counter", "Parked descriptors whose other end is gone.").add(float64(st.Store.Dropped), labels()...)
}

// addProxy adds one proxy.
func (x *exposition) addProxy(p Proxy, labels func(...string) []string) {
	for _, m := range []struct {
		name, kind, help string
		value            int64
	}{
		{"connections", "gauge", "Clients of a proxy that are connected.", p.Connections},
		{"held", "gauge", "Clients of a proxy that wait for a server.", p.Held},
		{"accepted_total", "counter", "Clients that a proxy accepted.", p.Accepted},
		{"moved_total", "counter", "Connections that went from a living server to its successor.", p.Moved},
		{"resumed_total", "counter", "Connections that went on after their server was gone.", p.Resumed},
		{"stayed_total", "counter", "Times that a connection was not moved in time.", p.Stayed},
		{"unconfirmed_total", "counter", "Moves without the predecessor's own end of the connection.", p.Unconfirmed},
		{"in_flight_total", "counter", "Connections whose server was lost with bytes in flight.", p.InFlight},
		{"reset_total", "counter", "Clients that a proxy reset.", p.Reset},
		{"replayed_total", "counter", "Safe HTTP requests that a lost server had not begun to answer, sent to its successor.", p.Replayed},
		{"not_understood_total", "counter", "Connections whose HTTP was not understood.", p.NotUnderstood},
		{"dial_failed_total", "counter", "Attempts to connect to the server that failed.", p.DialFailed},
		{"accept_failed_total", "counter", "Times that no client could be accepted.", p.AcceptFailed},
		{"rejected_total", "counter", "PROXY headers of clients that were rejected.", p.Rejected},
		{"idle_total", "counter", "Connections that were ended because nothing moved.", p.Idle},
	} {
		x.family("upgrader_proxy_"+m.name, m.kind, m.help).add(float64(m.value), labels("address", p.Address)...)
	}
	bytes := x.family("upgrader_proxy_bytes_total", "counter", "Bytes between clients and servers.")
	bytes.add(float64(p.BytesUp), labels("address", p.Address, "direction", "up")...)
	bytes.add(float64(p.BytesDown), labels("address", p.Address, "direction", "down")...)
}
