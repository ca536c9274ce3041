package jsonscan

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
	"unicode/utf8"

	"irohub/internal/jsonscan/reference"
)

// Object and Array agree with encoding/json on any text: on what they find and whether they
// accept it.
func FuzzScan(f *testing.F) {
	for _, text := range reference.Values {
		f.Add([]byte(text))
		f.Add([]byte(`{"a":` + text + `,"b":[` + text + `]}`))
		f.Add([]byte(` [ ` + text + ` , "\ud83d\ude00" ] `))
	}
	for _, levels := range []int{MaxDepth - 1, MaxDepth, MaxDepth + 1} {
		f.Add([]byte(reference.Nest(levels, "ao")))
		f.Add([]byte(reference.Nest(levels, "oa")))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		before := bytes.Clone(text)
		sound := utf8.Valid(text) && json.Valid(text) && reference.Depth(text) <= MaxDepth
		if Valid(text, 0) != sound {
			t.Fatalf("Valid(%q) is not %v", text, sound)
		}
		want, isObject := reference.Members(text, MaxDepth)
		var got [][2]string
		o := Object{Text: text, Depth: 1}
		for o.Next() {
			got = append(got, [2]string{string(o.Name), string(o.Value)})
		}
		if o.Complete() != isObject || isObject && !slices.Equal(got, want) {
			t.Fatalf("members of %q: %q (%v), want %q (%v)", text, got, o.Complete(), want, isObject)
		}
		var list []json.RawMessage
		isArray := sound && json.Unmarshal(text, &list) == nil && list != nil
		n, a := 0, Array{Text: text}
		for a.Next() {
			if isArray && (n >= len(list) || !bytes.Equal(a.Value, list[n])) {
				t.Fatalf("element %d of %q: %q", n, text, a.Value)
			}
			n++
		}
		// Array iterates only over text that was checked before, so it does not count its own depth.
		if sound && (a.Complete() != isArray || isArray && n != len(list)) {
			t.Fatalf("elements of %q: %d (%v), want %d (%v)", text, n, a.Complete(), len(list), isArray)
		}
		if s, isString, whole := reference.String(string(bytes.TrimSpace(text))); sound && isString {
			if got, ok := Unquote(bytes.TrimSpace(text)); string(got) != s || ok != whole {
				t.Fatalf("Unquote(%q) is %q (%v), want %q (%v)", text, got, ok, s, whole)
			}
			var back string
			if err := json.Unmarshal(AppendQuoted(nil, s), &back); err != nil || back != s {
				t.Fatalf("AppendQuoted(%q) is %q (%v)", s, back, err)
			}
		}
		if !bytes.Equal(text, before) {
			t.Fatal("the text was changed")
		}
	})
}

// BenchmarkValid checks payloads. For comparison, it runs json.Valid on the same bytes, which
// does not check the UTF-8.
func BenchmarkValid(b *testing.B) {
	for _, kind := range reference.Kinds {
		for _, size := range reference.Sizes {
			text := kind.Make(size.Bytes)
			for _, impl := range []struct {
				name  string
				valid func([]byte) bool
			}{{"irohub", valid}, {"json.Valid", json.Valid}} {
				b.Run("kind="+kind.Name+"/size="+size.Name+"/impl="+impl.name, func(b *testing.B) {
					b.SetBytes(int64(len(text)))
					b.ReportAllocs()
					for b.Loop() {
						if !impl.valid(text) {
							b.Fatal("not valid")
						}
					}
				})
			}
		}
	}
}
