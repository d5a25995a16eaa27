package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestEveryScenarioPasses(t *testing.T) {
	files, err := filepath.Glob("../../../scenarios/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("there are no scenarios: ", err)
	}
	for _, file := range files {
		t.Run(Name(file), func(t *testing.T) {
			err := Runner{}.RunScenario(t.Context(), file)
			if errors.Is(err, ErrNoTestServer) && os.Getenv("CI") == "" {
				t.Skip("!!! SCENARIO SKIPPED: ", err, " !!!")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestStepThatExpectsAnErrorHasAShortTimeLimit(t *testing.T) {
	refused := map[string]any{}
	stepsByLimit := map[time.Duration][]map[string]any{
		10 * time.Second: {{"call": "x", "refused": refused}, {"answer": "x", "refused": refused}, {"lost": "x"}},
		60 * time.Second: {{"call": "x"}, {"stop_keeper": "x"}},
	}
	for limit, steps := range stepsByLimit {
		for _, raw := range steps {
			step, err := new(participantRunner).parse(raw)
			if err != nil || step.limit() != limit {
				t.Error(raw, step, err)
			}
		}
	}
}

func TestUnknownMemberFailsTheStep(t *testing.T) {
	for _, raw := range []map[string]any{
		{"call": "x", "expects": 1}, {"call": "x", "refused": map[string]any{"raeson": "STALE_LEASE"}},
	} {
		if _, err := new(participantRunner).parse(raw); err == nil {
			t.Error("the step was accepted: ", raw)
		}
	}
}
