package runhub

import (
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	v1 "github.com/runhub/runhub/client/go/runhubv1"
)

// declaredReasons parses reason.go and returns a map. Each key is the name of a value of the enum ErrorReason, and the
// map's value is the name of the exported variable that is made from this enum value.
func declaredReasons(t *testing.T) map[string]string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "reason.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]string)
	ast.Inspect(file, func(node ast.Node) bool {
		variable, ok := node.(*ast.ValueSpec)
		if !ok || len(variable.Values) != 1 || !variable.Names[0].IsExported() {
			return true
		}
		call, ok := variable.Values[0].(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			return true
		}
		if value, ok := call.Args[0].(*ast.SelectorExpr); ok {
			declared[strings.TrimPrefix(value.Sel.Name, "ErrorReason_")] = variable.Names[0].Name
		}
		return true
	})
	return declared
}

func TestEveryReasonOfTheEnumIsDeclared(t *testing.T) {
	declared := slices.Sorted(maps.Keys(declaredReasons(t)))
	enum := maps.Clone(v1.ErrorReason_value)
	delete(enum, v1.ErrorReason_ERROR_REASON_UNSPECIFIED.String())
	if want := slices.Sorted(maps.Keys(enum)); !slices.Equal(declared, want) {
		t.Errorf("reason.go declares %v, but the enum has %v", declared, want)
	}
}

func TestVariableOfAReasonHasTheNameOfItsValue(t *testing.T) {
	for value, variable := range declaredReasons(t) {
		name := strings.ReplaceAll(strings.TrimPrefix(value, reasonPrefix), "_", "")
		if !strings.EqualFold(name, variable) {
			t.Errorf("%s is made from %s", variable, value)
		}
	}
}

func TestReasonIsTheNameOfItsValueWithoutThePrefix(t *testing.T) {
	if StaleLease != "STALE_LEASE" {
		t.Error(StaleLease)
	}
	for name, number := range v1.ErrorReason_value {
		reason := toReason(v1.ErrorReason(number))
		if reasonPrefix+string(reason) != name {
			t.Errorf("%s has the reason %s", name, reason)
		}
		if err := fromStatus(refusal(codes.FailedPrecondition, reason)); err.Reason != reason {
			t.Errorf("an error with the reason %s is read as %s", reason, err.Reason)
		}
	}
}
