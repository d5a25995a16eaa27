package scenario

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
)

// match compares the actual value with the expected one: an object must have the expected members and may have others; a
// list must have the expected length; null means absent; any other value must be equal. `where` names the value in the
// error.
func match(where string, expected, actual any) error {
	switch expected := expected.(type) {
	case map[string]any:
		members, ok := actual.(map[string]any)
		if !ok {
			return difference(where, expected, actual)
		}
		for key, member := range expected {
			if err := match(where+"."+key, member, members[key]); err != nil {
				return err
			}
		}
		return nil
	case []any:
		entries, ok := actual.([]any)
		if !ok || len(entries) != len(expected) {
			return difference(where, expected, actual)
		}
		for i, entry := range expected {
			if err := match(fmt.Sprintf("%s[%d]", where, i), entry, entries[i]); err != nil {
				return err
			}
		}
		return nil
	default:
		if !reflect.DeepEqual(expected, actual) {
			return difference(where, expected, actual)
		}
		return nil
	}
}

// difference returns the error that names the expected and the actual value.
func difference(where string, expected, actual any) error {
	return fmt.Errorf("%s: expected %s, got %s", where, show(expected), show(actual))
}

func show(value any) string {
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// find returns the value at a path such as tasks.0.id; "." is the whole value. It fails if there is no such value.
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
				return nil, noValue(in, path)
			}
			found = within[i]
		default:
			found = nil
		}
		if found == nil {
			return nil, noValue(in, path)
		}
	}
	return found, nil
}

func noValue(in any, path string) error {
	return fmt.Errorf("there is no value at %s in %s", path, show(in))
}
