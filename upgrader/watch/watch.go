package watch

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Config describes what is watched.
type Config struct {
	// Path is absolute. Symbolic links anywhere in it are followed, and may be
	// pointed elsewhere. That a directory above the one of the file, which is no
	// link, gets another name is not seen.
	Path string
	// Quiet is for how long nothing must have happened to the file before it is
	// looked at. 0: 500 ms.
	Quiet time.Duration
	// Changed is told that another file, or another content, can be run.
	Changed func()
	// Refused is told why another file, or another content, cannot; once for each.
	Refused func(error)
}

// Watch is one path under watch.
type Watch struct {
	config  Config
	watcher *fsnotify.Watcher
	places  places
	watched map[string]os.FileInfo // directories, as they were when they began to be watched

	last    file // told, or there from the start
	refused file
}

// New begins to watch: what is there now is not told. Run ends it.
func New(c Config) (*Watch, error) {
	if c.Quiet <= 0 {
		c.Quiet = 500 * time.Millisecond
	}
	watcher, err := fsnotify.NewWatcher()
	if err != nil {
		return nil, fmt.Errorf("watch: %w", err)
	}
	w := &Watch{config: c, watcher: watcher, watched: map[string]os.FileInfo{}}
	w.last, _ = examine(c.Path) // none: the first that comes is another one
	if err := w.follow(); err != nil {
		_ = watcher.Close() // nothing was seen
		return nil, fmt.Errorf("watch: %s: %w", c.Path, err)
	}
	return w, nil
}

// Run watches until ctx ends. An error means that nothing is watched any more.
func (w *Watch) Run(ctx context.Context) error {
	defer w.watcher.Close()               // it joins its goroutine; there is nothing to lose
	look := time.NewTimer(w.config.Quiet) // it may have changed before it was watched
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-w.watcher.Events:
			if w.concerns(e.Name) {
				look.Reset(w.config.Quiet)
			}
		case <-w.watcher.Errors: // events were lost
			look.Reset(w.config.Quiet)
		case <-look.C:
			if err := w.follow(); err != nil {
				return fmt.Errorf("watch: %s: %w", w.config.Path, err)
			}
			if !w.look() {
				look.Reset(w.config.Quiet)
			}
		}
	}
}

// look tells if there is something new. It reports false when that cannot be
// known yet.
func (w *Watch) look() bool {
	now, err := examine(w.config.Path)
	if err != nil { // it may come, and then that is seen
		return true
	}
	if now.same(w.last) || now == w.refused {
		return true
	}
	if beingWritten(w.config.Path) {
		return false
	}
	err = runnable(w.config.Path)
	if after, again := examine(w.config.Path); again != nil || after != now {
		return false // it changed meanwhile
	}
	if err != nil {
		w.refused = now
		w.config.Refused(fmt.Errorf("watch: %s: %w", w.config.Path, err))
		return true
	}
	w.last, w.refused = now, file{}
	w.config.Changed()
	return true
}

// follow watches the directories that the path leads through now.
func (w *Watch) follow() error {
	w.places = placesOf(w.config.Path)
	for dir, before := range w.watched {
		info, err := os.Stat(dir)
		if _, wanted := w.places[dir]; !wanted || err != nil || !os.SameFile(info, before) {
			_ = w.watcher.Remove(dir) // it may be gone
			delete(w.watched, dir)
		}
	}
	for dir := range w.places {
		if _, have := w.watched[dir]; have {
			continue
		}
		if err := w.watcher.Add(dir); err != nil {
			if os.IsNotExist(err) { // the event of that is under way
				continue
			}
			return err
		}
		if info, err := os.Stat(dir); err == nil {
			w.watched[dir] = info
		}
	}
	return nil
}

// concerns reports whether what happened to name may change where the path
// leads.
func (w *Watch) concerns(name string) bool {
	if _, dir := w.places[name]; dir {
		return true
	}
	return w.places[filepath.Dir(name)][filepath.Base(name)]
}
