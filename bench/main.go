// Command bench compares irohub with the systems that one might use instead. It runs the same workload over
// each of them, one after another in every round. docs/performance.md explains what is measured.
//
//	go run . -o ../docs/performance.md
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

func main() {
	if err := command(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func command() error {
	var all []string
	for _, c := range contestants {
		all = append(all, c.name)
	}
	systems := flag.String("systems", strings.Join(all, ","), "the systems to measure, separated by commas")
	numbers := flag.String("n", "8,64,512", "numbers of subscribers; memory is measured at the largest")
	rounds := flag.Int("rounds", 5, "how often to repeat each measurement")
	length := flag.Duration("for", time.Second, "approximate length of each measurement")
	output := flag.String("o", "", "write the tables into the generated part of this Markdown file, and the plot beside it as SVG")
	asJSON := flag.Bool("json", false, "print every value as JSON instead of tables")
	residentOf := flag.String("resident", "", "internal: print the resident memory of this process with that system idle")
	subscribeTo := flag.String("subscribe", "", "internal: run the subscribers of the server named on standard input")
	flag.Parse()
	if flag.NArg() > 0 || *rounds < 1 {
		flag.Usage()
		return errors.New("bench takes no arguments, and -rounds must be at least 1")
	}
	ns, err := parseNumbers(*numbers)
	if err != nil {
		return err
	}
	if *residentOf != "" {
		c, err := find(*residentOf)
		if err != nil {
			return err
		}
		size, err := resident(c.new(), ns[0])
		fmt.Println(size)
		return err
	}
	if *subscribeTo != "" {
		c, err := find(*subscribeTo)
		if err != nil {
			return err
		}
		return subscribersMain(c, ns[0], os.Stdin, os.Stdout)
	}
	if slices.Max(ns) < 8 {
		return errors.New("-n: the largest number must be at least 8, to measure memory")
	}
	r := &results{
		Date:    time.Now().Format(time.DateOnly),
		Machine: thisMachine(),
		Length:  *length,
		Rounds:  *rounds,
		Numbers: ns,
	}
	if *output != "" { // checked now, to find a mistake before all the rounds
		if _, _, err := aroundGenerated(*output); err != nil {
			return err
		}
	}
	var chosen []contestant
	for name := range strings.SplitSeq(*systems, ",") {
		c, err := find(name)
		if err != nil {
			return err
		}
		chosen = append(chosen, c)
		r.Systems = append(r.Systems, c.name)
	}
	if err := r.measure(chosen); err != nil {
		return err
	}
	return r.write(*output, *asJSON)
}

func parseNumbers(list string) (ns []int, err error) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			return nil, fmt.Errorf("-n: %q is not a number of subscribers", text)
		}
		ns = append(ns, n)
	}
	return ns, nil
}

func find(name string) (contestant, error) {
	i := slices.IndexFunc(contestants, func(c contestant) bool { return c.name == name })
	if i < 0 {
		return contestant{}, fmt.Errorf("there is no system %q", name)
	}
	return contestants[i], nil
}

// measure runs all rounds. Each begins with another system, so that no system always follows the same one.
func (r *results) measure(chosen []contestant) error {
	for _, c := range chosen { // find missing libraries before the rounds, too
		if err := check(c.new(), 1, step); err != nil {
			return fmt.Errorf("%s: %w", c.name, err)
		}
	}
	for round := range r.Rounds {
		first := round % len(chosen)
		order := slices.Concat(chosen[first:], chosen[:first])
		for _, n := range r.Numbers {
			for _, c := range order {
				if err := r.round(round, c, n, r.measureRate); err != nil {
					return err
				}
			}
			for _, c := range order {
				if err := r.round(round, c, n, r.measureServer); err != nil {
					return err
				}
			}
		}
		for _, c := range order {
			if err := r.round(round, c, latencyNumber, r.measureLatency); err != nil {
				return err
			}
		}
		if runtime.GOOS != "linux" {
			continue // resident memory is unknown here
		}
		for _, c := range order {
			if err := r.round(round, c, slices.Max(r.Numbers), r.measureMemory); err != nil {
				return err
			}
		}
	}
	return nil
}

// round makes one measurement and prints a line about it.
func (r *results) round(round int, c contestant, n int, measure func(contestant, int) (string, error)) error {
	outcome, err := measure(c, n)
	if err != nil {
		return fmt.Errorf("%s, %d subscribers: %w", c.name, n, err)
	}
	fmt.Fprintf(os.Stderr, "round %d of %d, %3d subscribers, %-20s %s\n", round+1, r.Rounds, n, c.title+":", outcome)
	return nil
}

func (r *results) measureRate(c contestant, n int) (string, error) {
	rate, cpu, err := throughput(c.new(), n, r.Length)
	if err != nil {
		return "", err
	}
	r.add(c.name, metricRate, n, rate)
	r.add(c.name, metricCPU, n, cpu.Seconds())
	return fmt.Sprintf("%.3f M deliveries/s, %.2f CPU s/M", rate/1e6, cpu.Seconds()), nil
}

func (r *results) measureServer(c contestant, n int) (string, error) {
	cpu, err := serverCPU(c, n, r.Length)
	if err != nil {
		return "", err
	}
	r.add(c.name, metricServer, n, 1e6/cpu.Seconds())
	return fmt.Sprintf("%.3f CPU s/M of the server alone", cpu.Seconds()), nil
}

func (r *results) measureLatency(c contestant, n int) (string, error) {
	p50, p99, err := latency(c.new(), n, r.Length)
	if err != nil {
		return "", err
	}
	r.add(c.name, metricP50, n, p50.Seconds()*1e3)
	r.add(c.name, metricP99, n, p99.Seconds()*1e3)
	return fmt.Sprintf("p50 %v, p99 %v", p50.Round(time.Microsecond), p99.Round(time.Microsecond)), nil
}

func (r *results) measureMemory(c contestant, n int) (string, error) {
	size, err := memory(c.name, n)
	if err != nil {
		return "", err
	}
	r.add(c.name, metricMemory, n, size/1024)
	return fmt.Sprintf("%.0f KiB per idle subscriber", size/1024), nil
}

// write prints the results and, if an output file is given, writes it too.
func (r *results) write(file string, asJSON bool) error {
	if asJSON {
		out := json.NewEncoder(os.Stdout)
		out.SetIndent("", "\t")
		if err := out.Encode(r); err != nil {
			return err
		}
	} else {
		report(os.Stdout, r)
	}
	if file == "" {
		return nil
	}
	svg := strings.TrimSuffix(file, filepath.Ext(file)) + ".svg"
	if err := drawRates(svg, r); err != nil {
		return err
	}
	var text bytes.Buffer
	fmt.Fprintf(&text, "![Deliveries per second of each system](%s)\n\n", filepath.Base(svg))
	report(&text, r)
	return replaceGenerated(file, text.Bytes())
}
