package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("../../../scenarios/*.json")
	if err != nil || len(files) == 0 {
		t.Fatal("no scenarios: ", err)
	}
	for _, file := range files {
		t.Run(Name(file), func(t *testing.T) {
			err := Player{}.Play(t.Context(), file)
			if errors.Is(err, ErrNoStage) && os.Getenv("CI") == "" {
				t.Skip("!!! NOT PLAYED: ", err, " !!!")
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestWhatMustBeSoonHasLessTime(t *testing.T) {
	for limit, steps := range map[time.Duration][]map[string]any{
		10 * time.Second: {{"call": "x", "refused": map[string]any{}}, {"answer": "x", "refused": map[string]any{}}, {"lost": "x"}},
		60 * time.Second: {{"call": "x"}, {"let_go": "x"}},
	} {
		for _, raw := range steps {
			step, err := new(part).filledIn(raw)
			if err != nil || step.limit() != limit {
				t.Error(raw, step, err)
			}
		}
	}
}

func TestAMemberThatNoVerbKnowsIsRefused(t *testing.T) {
	for _, raw := range []map[string]any{
		{"call": "x", "expects": 1}, {"call": "x", "refused": map[string]any{"raeson": "STALE_LEASE"}},
	} {
		if _, err := new(part).filledIn(raw); err == nil {
			t.Error("taken: ", raw)
		}
	}
}
