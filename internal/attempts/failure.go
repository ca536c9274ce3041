package attempts

import (
	"errors"
	"strings"

	"irohub/internal/words"
)

// A Failure is an error of a dial or a handshake: what a transport did, the kind of error, and
// its cause.
type Failure struct {
	Prefix string // of the transport's errors
	Doing  string
	Kind   error // one that users test for; nil: unknown
	Cause  error
}

func (f *Failure) Error() string {
	cause := words.Printable(strings.TrimPrefix(f.Cause.Error(), f.Prefix)) // may include text from the peer
	if f.Kind == nil || errors.Is(f.Cause, f.Kind) {                        // the cause says the same and more
		return f.Prefix + f.Doing + ": " + cause
	}
	return f.Prefix + f.Doing + ": " + strings.TrimPrefix(f.Kind.Error(), f.Prefix) + ": " + cause
}

// Unwrap returns the kind, if it is known, and the cause.
func (f *Failure) Unwrap() []error {
	if f.Kind == nil {
		return []error{f.Cause}
	}
	return []error{f.Kind, f.Cause}
}
