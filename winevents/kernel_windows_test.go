package winevents

import "testing"

func testKernels(t *testing.T) map[string]kernel {
	k, err := newKernel()
	if err != nil {
		t.Fatal(err)
	}
	return map[string]kernel{"fake": newMachine(t).spawn(serverPid, serverExe), "real": k}
}
