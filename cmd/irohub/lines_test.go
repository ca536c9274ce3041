package main

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

func TestReadEvents(t *testing.T) {
	const limit = 1000
	long := `{"type":"long","payload":"` + strings.Repeat("x", limit+lineSlack) + `"}`
	input := strings.Join([]string{
		`{"type":"a","id":"b","payload":{"n": 1}}`,
		``,
		`  {"payload":null,"type":"a","from":"ignored"}` + "\r",
		`not json`,
		long,
		`{"type":"a"} {"type":"b"}`,
		`{"type":"a","type":"b"}`,
		`{"type":"a","Payload":1}`,
		`{"type":1}`,
		`{"type":null}`,
		`["type"]`,
		"{\"type\":\"\xff\"}",
		`{"type":"a"`,
		`{"type":"\ud800"}`,
		`{"type":"a","id":"x\udC00\uD800"}`,
		`{"type":"a","id":"\ud83d\ud83d\udc4d"}`,
		`{"type":"\ud83d\udc4d\\ud800\"","payload":"\ud800"}`,
		`{"type":"last"}`,
	}, "\n") // the last without an end
	want := []string{
		1:  `a:b {"n": 1}`,
		3:  `a null`,
		4:  `not JSON`,
		5:  `longer than`,
		6:  `not JSON`,
		7:  `"type" is repeated`,
		8:  `unknown member "Payload"`,
		9:  `"type" is not a string`,
		10: `"type" is not a string`,
		11: `not a JSON object`,
		12: `not UTF-8`,
		13: `not JSON`,
		14: `unpaired surrogate: \ud800`,
		15: `unpaired surrogate: \udC00`,
		16: `unpaired surrogate: \ud83d`,
		17: `👍\ud800" "\ud800"`,
		18: `last `,
	}
	for name, in := range map[string]io.Reader{"whole": strings.NewReader(input), "by bytes": iotest.OneByteReader(strings.NewReader(input))} {
		seen := 0
		for l := range readEvents(in, limit) {
			seen++
			got := l.event.Topic() + " " + string(l.event.Payload)
			if l.err != nil {
				got = l.err.Error()
				if _, ok := errors.AsType[inputError](l.err); !ok {
					t.Errorf("%s, line %d: %T is no inputError", name, l.number, l.err)
				}
			}
			if l.number >= len(want) || want[l.number] == "" || !strings.Contains(got, want[l.number]) {
				t.Errorf("%s, line %d: %s", name, l.number, got)
			}
		}
		if seen != 17 {
			t.Errorf("%s: %d lines, want 17", name, seen)
		}
	}
}

func TestReadEvents_ReadingFails(t *testing.T) {
	in := io.MultiReader(strings.NewReader(`{"type":"a"}`+"\n"), iotest.ErrReader(errors.New("broken")))
	var got []error
	for l := range readEvents(in, 1000) {
		got = append(got, l.err)
	}
	if len(got) != 2 || got[0] != nil || !strings.Contains(got[1].Error(), "broken") {
		t.Fatalf("got %v", got)
	}
	if _, ok := errors.AsType[inputError](got[1]); ok {
		t.Error("a failed read is not the input's fault")
	}
}
