package scenario

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// match compares what came with what was wanted: an object must have these members and may have others; a list must have
// this length; null means absent; anything else is equal.
func match(where string, want, got any) error {
	switch want := want.(type) {
	case map[string]any:
		members, ok := got.(map[string]any)
		if !ok {
			return differs(where, want, got)
		}
		for key, member := range want {
			if err := match(where+"."+key, member, members[key]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		entries, ok := got.([]any)
		if !ok || len(entries) != len(want) {
			return differs(where, want, got)
		}
		for i, entry := range want {
			if err := match(fmt.Sprintf("%s[%d]", where, i), entry, entries[i]); err != nil {
				return err
			}
		}
		return nil
	default:
		if !reflect.DeepEqual(want, got) {
			return differs(where, want, got)
		}
		return nil
	}
}

func differs(where string, want, got any) error {
	return fmt.Errorf("%s: wanted %s, came %s", where, show(want), show(got))
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// find follows a path like tasks.0.id; "." is all of it.
func find(in any, path string) (any, error) {
	if path == "." {
		return in, nil
	}
	found := in
	for name := range strings.SplitSeq(path, ".") {
		switch within := found.(type) {
		case map[string]any:
			found = within[name]
		case []any:
			i, err := strconv.Atoi(name)
			if err != nil || i < 0 || i >= len(within) {
				return nil, fmt.Errorf("%s leads nowhere in %s", path, show(in))
			}
			found = within[i]
		default:
			found = nil
		}
		if found == nil {
			return nil, fmt.Errorf("%s leads nowhere in %s", path, show(in))
		}
	}
	return found, nil
}
