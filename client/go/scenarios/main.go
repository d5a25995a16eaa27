// The scenario runner in Go. client/scenarios/README.md explains its arguments and its output.
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
	var player scenario.Player
	flag.StringVar(&player.Server, "server", "", "play against the server at this `address` instead of against stages")
	flag.StringVar(&player.Part, "part", "", "play only the part with this `name`")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	hasPassed := playAll(ctx, player, flag.Args())
	stop()
	if !hasPassed {
		os.Exit(1)
	}
}

// playAll plays the scenarios and prints a line for each. It returns whether all of them have passed.
func playAll(ctx context.Context, player scenario.Player, files []string) bool {
	hasPassed := true
	for _, file := range files {
		begun := time.Now()
		verdict := "ok"
		if err := player.Play(ctx, file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			verdict = "FAILED"
			hasPassed = false
		}
		took := time.Since(begun).Milliseconds()
		fmt.Printf("%s\t%s\t%s\t%d\n", scenario.Name(file), scenario.Language, verdict, took)
	}
	return hasPassed
}
