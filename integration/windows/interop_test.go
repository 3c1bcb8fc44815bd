package windows

import "testing"

// testInterop runs both sides of both kinds, ours and unmodified ones, against
// each other under wine, and TestKernel on wine's kernel.
func testInterop(t *testing.T, w *wine) {
	t.Run("Kernel", func(t *testing.T) {
		k := w.start(t, "winevents.test.exe", "-test.v", "-test.run=^TestKernel$")
		k.await("--- PASS: TestKernel/real/process")
		k.await("PASS")
	})
	t.Run("Sections", func(t *testing.T) {
		k := w.start(t, "shmbridge.test.exe", "-test.v", "-test.run=^TestSection", "-test.shuffle=on")
		k.await("PASS")
		k.end(0)
	})
	for _, asked := range []string{"Go", "C++"} {
		for _, asking := range []string{"Go", "C++"} {
			t.Run(asking+" asks "+asked, func(t *testing.T) {
				s := w.serve(t, asked, 200, 10)
				a := w.ask(t, asking, s)
				a.await("result confirmed")
				a.end(0)
				s.await("confirmed")
				s.await("exit")
				s.end(0)
			})
		}
	}
	t.Run("asked looks rarely", func(t *testing.T) { // an unmodified asker loses Kill here
		s := w.serve(t, "C++", 0, 400)
		a := w.ask(t, "Go", s)
		a.await("result confirmed")
		a.end(0)
		s.await("exit")
	})
	t.Run("asked saves", func(t *testing.T) {
		s := w.serve(t, "Go", 100, 0)
		a := w.ask(t, "Go", s, "-marker", w.path(s.marker), "-gone")
		a.await("result confirmed saved")
		a.await("gone")
		a.end(0)
		s.await("exit")
	})
	t.Run("asked has no marker", func(t *testing.T) {
		s := w.serve(t, "C++", 0, 10)
		a := w.ask(t, "Go", s, "-marker", w.path(s.marker))
		a.await("event doubted")
		a.await("result exited unsaved")
		a.end(0)
	})
	t.Run("asked dies", func(t *testing.T) {
		s := w.serve(t, "Go", 60000, 0)
		a := w.ask(t, "Go", s)
		s.await("stopping")
		s.kill()
		a.await("result exited")
		a.end(0)
	})
	t.Run("deaf and killed", func(t *testing.T) {
		s := w.serve(t, "C++", 0, 1000000)
		a := w.ask(t, "Go", s, "-deadline", "kill", "-confirm", "300ms")
		a.await("event unnoticed")
		a.await("result terminated")
		a.end(0)
	})
	t.Run("deaf and refused", func(t *testing.T) {
		s := w.serve(t, "C++", 0, 1000000)
		a := w.ask(t, "Go", s, "-confirm", "300ms")
		a.await("event unnoticed")
		s.kill()
		a.await("result exited")
		a.end(0)
	})
	t.Run("deaf and given up", func(t *testing.T) {
		s := w.serve(t, "C++", 0, 1000000)
		a := w.ask(t, "Go", s, "-timeout", "2s")
		a.await("event retracted")
		a.await("error winevents: ask process")
		a.end(1)
		w.ask(t, "Go", s, "-deadline", "proceed", "-confirm", "300ms").await("result proceeded")
	})
	t.Run("two askers", func(t *testing.T) {
		s := w.serve(t, "Go", 60000, 0)
		first := w.ask(t, "Go", s)
		s.await("stopping")
		second := w.ask(t, "Go", s)
		second.await("error")
		second.end(1)
		s.kill()
		first.await("result exited")
		first.end(0)
	})
	t.Run("nobody", func(t *testing.T) {
		s := w.serve(t, "Go", 0, 0)
		s.kill()
		a := w.ask(t, "Go", s)
		a.await("result nobody")
		a.end(0)
	})
	for _, asked := range []string{"Go", "C++"} {
		t.Run("signals to "+asked, func(t *testing.T) {
			s := w.serve(t, asked, 0, 10)
			w.ask(t, "Go", s, "-signal", "Reload").end(0)
			s.await("reload")
			w.ask(t, "Go", s, "-signal", "Stop").end(0)
			s.await("stopping Stop")
			s.await("exit")
		})
	}
}
