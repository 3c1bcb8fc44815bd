package control

import (
	"bytes"
	"strings"
	"testing"
)

// What is known of proxies and the store is in the status and in the metrics.
func TestProxiesAndStore(t *testing.T) {
	s := sample()
	s.Proxies = []Proxy{{Address: "tcp://:80", Backend: "intercepted", Policy: "drain", Connections: 7, Held: 2, Accepted: 9, Moved: 4, Resumed: 3, InFlight: 1, Reset: 5, BytesUp: 11, BytesDown: 12}}
	s.Parked, s.Store = 3, &Store{Parked: 3, Max: 8, Refused: 2, Dropped: 1}
	var b bytes.Buffer
	if err := Render(&b, s, noon); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(b.String()), " ")
	for _, want := range []string{
		"parked 3 descriptors of at most 8, 2 refused, 1 dropped",
		"PROXY BACKEND POLICY CONNECTIONS HELD ACCEPTED MOVED RESUMED IN FLIGHT RESET tcp://:80 intercepted drain 7 2 9 4 3 1 5",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in %s", want, text)
		}
	}
	var x exposition
	x.add(Service{ID: "2"}, s, noon)
	metrics := string(x.bytes())
	for _, line := range []string{
		`upgrader_parked_descriptors_max{service="api",id="2"} 8`,
		`upgrader_parked_refused_total{service="api",id="2"} 2`,
		`upgrader_parked_dropped_total{service="api",id="2"} 1`,
		`upgrader_proxy_connections{service="api",id="2",address="tcp://:80"} 7`,
		`upgrader_proxy_moved_total{service="api",id="2",address="tcp://:80"} 4`,
		`upgrader_proxy_in_flight_total{service="api",id="2",address="tcp://:80"} 1`,
		`upgrader_proxy_bytes_total{service="api",id="2",address="tcp://:80",direction="down"} 12`,
		`# TYPE upgrader_proxy_reset_total counter`,
	} {
		if !strings.Contains(metrics, line+"\n") {
			t.Errorf("there is no %s in\n%s", line, metrics)
		}
	}
}
