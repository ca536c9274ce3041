package main

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// A value is a pflag.Value that checks its text when it is set.
type value[T any] struct {
	to    *T
	parse func(string) (T, error)
	text  string // the text that was set last; at first, the default
}

func (v *value[T]) Set(s string) error {
	parsed, err := v.parse(s)
	if err == nil {
		*v.to, v.text = parsed, s
	}
	return err
}

func (v *value[T]) String() string { return v.text }
func (v *value[T]) Type() string   { return "value" } // each usage names it

// declare declares a flag. short is its short name, and may be empty. standard is its default,
// which parse must accept.
func declare[T any](flags *pflag.FlagSet, to *T, name, short, standard, usage string, parse func(string) (T, error)) {
	v := &value[T]{to: to, parse: parse}
	if err := v.Set(standard); err != nil {
		panic(fmt.Sprintf("flag %s: %v", name, err)) // every run of the program would show it
	}
	flags.VarP(v, name, short, usage)
}

func numberVar(flags *pflag.FlagSet, to *int, name string, standard, least int, usage string) {
	declare(flags, to, name, "", strconv.Itoa(standard), usage, func(s string) (int, error) {
		return parseNumber(s, least, math.MaxInt32)
	})
}

func parseNumber(s string, least, most int) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < least || n > most {
		if most == math.MaxInt32 {
			return 0, fmt.Errorf("a number of at least %d is wanted", least)
		}
		return 0, fmt.Errorf("a number from %d to %d is wanted", least, most)
	}
	return n, nil
}

// bytesVar declares a flag for a number of bytes, from 2 KiB, because a frame must hold a long
// topic, to 1 GiB, the maximum of MaxFrame.
func bytesVar(flags *pflag.FlagSet, to *int, name, usage string) {
	declare(flags, to, name, "", "1MiB", usage, func(s string) (int, error) { return parseBytes(s, 2<<10, 1<<30) })
}

func parseBytes(s string, least, most int) (int, error) {
	digits, unit := s, 1
	for i, suffix := range []string{"KiB", "MiB", "GiB"} {
		if before, ok := strings.CutSuffix(s, suffix); ok {
			digits, unit = before, 1<<(10*(i+1))
		}
	}
	n, err := strconv.Atoi(digits)
	if err != nil || n < 0 || n > most/unit || n*unit < least {
		return 0, fmt.Errorf("a number of bytes from %d to %d is wanted, such as 65536 or 64KiB", least, most)
	}
	return n * unit, nil
}

// durationVar declares a flag for a duration above 0.
func durationVar(flags *pflag.FlagSet, to *time.Duration, name string, standard time.Duration, usage string) {
	declare(flags, to, name, "", standard.String(), usage, func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil || d <= 0 {
			return 0, errors.New("a time above 0 is wanted, such as 500ms, 10s or 1h30m")
		}
		return d, nil
	})
}
