// Command scenarios runs scenarios with the Go client. client/scenarios/README.md explains the arguments and the
// output.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"

	"github.com/runhub/runhub/client/go/internal/scenario"
)

func main() {
	var runner scenario.Runner
	flag.StringVar(
		&runner.Server, "server", "", "run the scenarios against the server at this `address` instead of against test servers")
	flag.StringVar(&runner.Participant, "participant", "", "run only the steps of the participant with this `name`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	hasPassed := runScenarios(ctx, runner, flag.Args())
	stop()
	if !hasPassed {
		os.Exit(1)
	}
}

// runScenarios runs the scenarios and prints a line for each scenario. runScenarios returns whether all scenarios have
// passed.
func runScenarios(ctx context.Context, runner scenario.Runner, files []string) bool {
	hasPassed := true
	for _, file := range files {
		started := time.Now()
		verdict := "ok"
		if err := runner.RunScenario(ctx, file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			verdict = "FAILED"
			hasPassed = false
		}
		took := time.Since(started).Milliseconds()
		fmt.Printf("%s\t%s\t%s\t%d\n", scenario.Name(file), scenario.Language, verdict, took)
	}
	return hasPassed
}
