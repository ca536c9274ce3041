package interop

import (
	"maps"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"irohub"
)

// TestTableNamesWhatThereIs holds docs/clients.md to the options that a Spoke has; the tests of the
// other clients do so with theirs.
func TestTableNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile("../../docs/clients.md")
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for line := range strings.Lines(string(text)) {
		if cells := strings.Split(line, "|"); len(cells) == 6 {
			for _, found := range regexp.MustCompile("`SpokeOptions\\.(\\w+)").FindAllStringSubmatch(cells[2], -1) {
				got[found[1]] = true
			}
		}
	}
	want := make(map[string]bool)
	for _, field := range reflect.VisibleFields(reflect.TypeFor[irohub.SpokeOptions]()) {
		want[field.Name] = true
	}
	if !maps.Equal(got, want) {
		t.Errorf("the table has the options %v, want %v", got, want)
	}
}
