package control

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"sync"
	"time"
)

// sent is one event of /events.
type sent struct {
	Server string `json:"server"`
	ID     string `json:"id,omitempty"`
	Event
}

// stream sends what happens to the selected services, all if none is, until
// the client leaves or until ends.
func (h *HTTP) stream(until context.Context, w http.ResponseWriter, r *http.Request, p url.Values) {
	services, e := h.choose(p, true)
	if e != nil {
		h.answer(w, statusOf(e), results{Error: e})
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(until, cancel)()

	var mu sync.Mutex
	control := http.NewResponseController(w)
	put := func(data []byte) error {
		mu.Lock()
		defer mu.Unlock()
		_ = control.SetWriteDeadline(time.Now().Add(h.write)) // a connection has deadlines
		_, err := w.Write(data)
		if err == nil {
			err = control.Flush()
		}
		if err != nil {
			cancel()
		}
		return err
	}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	if put([]byte(": events\n\n")) != nil {
		return
	}
	var all sync.WaitGroup
	for _, s := range services {
		all.Go(func() {
			_ = s.Handler.Events(ctx, func(e Event) error { // how a stream ends, the client cannot be told
				data, err := json.Marshal(sent{s.Server, s.ID, e})
				if err != nil {
					return err
				}
				return put(append(append([]byte("data: "), data...), '\n', '\n'))
			})
		})
	}
	over := make(chan struct{})
	go func() { all.Wait(); close(over) }()
	t := time.NewTicker(h.alive)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			_ = put([]byte(": alive\n\n")) // ends ctx
		case <-over:
			return
		}
	}
}
