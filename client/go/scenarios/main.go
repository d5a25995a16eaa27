// The scenarios' runner in Go: client/scenarios/README.md says what it does.
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
	flag.StringVar(&player.Server, "server", "", "play against this `address`, not against stages")
	flag.StringVar(&player.Part, "part", "", "play only this part")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	isPassed := playAll(ctx, player, flag.Args())
	stop()
	if !isPassed {
		os.Exit(1)
	}
}

func playAll(ctx context.Context, player scenario.Player, files []string) bool {
	isPassed := true
	for _, file := range files {
		begin, verdict := time.Now(), "ok"
		if err := player.Play(ctx, file); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			verdict, isPassed = "FAILED", false
		}
		name, took := scenario.Name(file), time.Since(begin).Milliseconds()
		fmt.Printf("%s\t%s\t%s\t%d\n", name, scenario.Language, verdict, took)
	}
	return isPassed
}
