package shmbridge

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func readDoc(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "docs", name))
	must(t, err)
	return string(text)
}

// docTable returns the rows after the comment that names a layout.
func docTable(t *testing.T, doc, name string) []field {
	t.Helper()
	_, text, found := strings.Cut(doc, "<!-- layout: "+name+" -->\n")
	if !found {
		t.Fatalf("no layout %s", name)
	}
	var fields []field
	for line := range strings.SplitSeq(text, "\n") {
		cells := strings.Split(line, "|")
		if len(cells) < 5 {
			return fields
		}
		offset, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue // the head
		}
		size, err := strconv.Atoi(strings.TrimSpace(cells[2]))
		must(t, err)
		fields = append(fields, field{offset, size, strings.TrimSpace(cells[3])})
	}
	return fields
}

func gapless(t *testing.T, name string, fields []field, size int) {
	t.Helper()
	at := 0
	for _, f := range fields {
		if f.Offset != at || f.Size%8 != 0 {
			t.Errorf("%s: %+v does not begin at %d", name, f, at)
		}
		at += f.Size
	}
	if at != size {
		t.Errorf("%s: %d bytes, not %d", name, at, size)
	}
}

func snapshotFields() []field {
	return []field{
		{hdrMagic, 8, "magic"}, {hdrVersion, 8, "version"}, {hdrBlockSize, 8, "block size"}, {hdrSize, 8, "size"},
		{hdrNumber, 8, "number"}, {hdrTime, 8, "time"}, {hdrGeneration, 8, "generation"}, {hdrState, 8, "state"},
		{hdrSchema, 8, "schema"}, {hdrSavedAt, 8, "saved at"}, {hdrChecksum, 8, "checksum"}, {hdrSaves, 8, "saves"},
		{hdrTableSum, 8, "table sum"}, {hdrBoot, 16, "boot"}, {hdrNameLength, 8, "name length"},
		{hdrName, nameLimit, "name"}, {hdrSum, 8, "sum"},
	}
}

func TestDocsSayTheLayout(t *testing.T) {
	bridge, snapshots := readDoc(t, "bridge.md"), readDoc(t, "snapshots.md")
	for _, test := range []struct {
		name, doc string
		fields    []field
		size      int
	}{
		{"page", bridge, pageFields(), PageSize},
		{"record", bridge, recordFields(), recordSize},
		{"snapshot", snapshots, snapshotFields(), headerSize},
	} {
		gapless(t, test.name, test.fields, test.size)
		if got := docTable(t, test.doc, test.name); !slices.Equal(got, test.fields) {
			t.Errorf("%s: the document says %v, the code %v", test.name, got, test.fields)
		}
	}
	for _, s := range []State{Fresh, Live, Saved, Unsaved} {
		if row := fmt.Sprintf("| %s | %d |", s, s); !strings.Contains(bridge, row) {
			t.Errorf("no row %q", row)
		}
	}
	if !strings.Contains(bridge, fmt.Sprintf("%#x", uint64(pageMagic))) {
		t.Error("another magic")
	}
}

func TestHeaderSaysTheLayout(t *testing.T) {
	text, err := os.ReadFile("upgrader_shm.h")
	must(t, err)
	want := map[string]int{
		"PAGE_SIZE": PageSize, "VERSION": LayoutVersion, "FRESH": int(Fresh), "LIVE": int(Live), "SAVED": int(Saved),
		"UNSAVED": int(Unsaved), "RECORDS": records, "RECORD_SIZE": recordSize, "TAKEN_YES": takenYes, "TAKEN_OVER": takenOver,
	}
	for _, f := range pageFields() {
		want["AT_"+strings.ToUpper(f.Name)] = f.Offset
	}
	for _, f := range recordFields() {
		want["IN_"+strings.ToUpper(f.Name)] = f.Offset
	}
	defines := regexp.MustCompile(`(?m)^#define UPGRADER_SHM_(\w+) (\d+)$`).FindAllStringSubmatch(string(text), -1)
	if len(defines) < 20 {
		t.Fatalf("only %d definitions were found", len(defines))
	}
	for _, d := range defines {
		if n, known := want[d[1]]; !known || strconv.Itoa(n) != d[2] {
			t.Errorf("%s is %s in the header, %d in Go", d[1], d[2], n)
		}
	}
	if !strings.Contains(string(text), fmt.Sprintf("UPGRADER_SHM_MAGIC UINT64_C(%#x)", uint64(pageMagic))) {
		t.Error("another magic")
	}
}
