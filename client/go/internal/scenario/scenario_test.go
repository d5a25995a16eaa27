package scenario

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
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
