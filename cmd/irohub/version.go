package main

import (
	"context"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/pflag"

	"irohub"
	"irohub/iroh"
)

// release is the newest version in CHANGELOG.md.
const release = "0.1.0"

var versionCommand = command{
	name:  "version",
	short: "Print the versions of the command, the protocol and the native library",
	text: `Prints the version and the commit of this program, the Go version that built it, the
protocol, and the version and path of iroh's native library, or why it was not found.`,
	setup: func(*pflag.FlagSet) action {
		return func(_ context.Context, args []string, std stdio) error {
			if err := unexpected(args); err != nil {
				return err
			}
			_, err := fmt.Fprint(std.out, versions())
			return err
		}
	},
}

func versions() string {
	var t strings.Builder
	fmt.Fprintf(&t, "irohub    %s\n", release)
	fmt.Fprintf(&t, "commit    %s\n", commit(debug.ReadBuildInfo()))
	fmt.Fprintf(&t, "go        %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	fmt.Fprintf(&t, "protocol  %s\n", irohub.ALPN)
	if path, version, err := iroh.Library(); err != nil {
		fmt.Fprintf(&t, "iroh      %v\n", err)
	} else {
		fmt.Fprintf(&t, "iroh      %s, %s\n", version, path)
	}
	return t.String()
}

// commit returns the commit that the go command has recorded in the program.
func commit(info *debug.BuildInfo, ok bool) string {
	if !ok {
		return "unknown"
	}
	var revision, time, changed string
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			revision = s.Value
		case s.Key == "vcs.time":
			time = " of " + s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			changed = ", with changes"
		}
	}
	if revision == "" {
		return "unknown: built with -buildvcs=false, or outside its repository"
	}
	return revision + time + changed
}
