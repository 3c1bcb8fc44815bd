package ledger

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strconv"
	"sync"
)

// Handler answers
//
//	POST /add?client=C&n=N  commit record N of client C (N counts from 1); a repeated one is answered, not committed again
//	GET  /                  the state as JSON, to which describe adds what it knows
//	POST /scribble          write over all of the ledger and die
func Handler(l *Ledger, describe func(*State)) http.Handler {
	var mu sync.Mutex // one writer
	mux := http.NewServeMux()
	mux.HandleFunc("POST /add", func(w http.ResponseWriter, r *http.Request) {
		client, err1 := strconv.ParseUint(r.FormValue("client"), 10, 64)
		n, err2 := strconv.ParseUint(r.FormValue("n"), 10, 64)
		if err := errors.Join(err1, err2); err != nil || client >= Clients {
			http.Error(w, fmt.Sprint(err, client), http.StatusBadRequest)
			return
		}
		mu.Lock()
		defer mu.Unlock()
		if err := l.Add(client, n); err != nil {
			http.Error(w, err.Error(), http.StatusConflict)
		}
	})
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		s := l.State()
		s.Pid, s.Generation = os.Getpid(), os.Getenv("UPGRADER_GENERATION")
		describe(&s)
		if err := l.Check(); err != nil {
			s.Unsound = err.Error()
		}
		_ = json.NewEncoder(w).Encode(s) // the client left
	})
	mux.HandleFunc("POST /scribble", func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		l.Scribble()
		fmt.Fprintln(os.Stderr, "ledger: scribbled while serving")
		os.Exit(3)
	})
	return mux
}
