package providers_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/patchbay-dev/patchbay/internal/secret"
	"github.com/patchbay-dev/patchbay/providers"
)

// What the steps leave of the time is enough to clean up: a test that ran over
// would lose its report.
func TestATestEndsInTimeCleanupIncluded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		test := providers.NewTest(t.Context(), providers.Config{}, providers.TestOptions{Level: 3})
		hang := func(ctx context.Context) providers.Outcome {
			<-ctx.Done()
			return providers.Warned(providers.CodeTimeout, "")
		}
		for range 4 {
			test.Step("step", hang)
		}
		test.Cleanup("clean", hang)
		r := test.Report("Connected")
		if took := time.Since(begun); took > providers.TestTimeout {
			t.Errorf("the test took %s", took)
		}
		if len(r.Steps) != 5 || r.Steps[4].Name != "clean" || r.Steps[4].MS < 1000 {
			t.Errorf("%+v", r.Steps)
		}
	})
}

func TestAFailedStepSkipsTheOthersButNotTheCleanup(t *testing.T) {
	test := providers.NewTest(t.Context(), providers.Config{}, providers.TestOptions{})
	test.Step("one", func(context.Context) providers.Outcome { return providers.Failed(providers.CodeAuthFailed, "") })
	test.Step("two", func(context.Context) providers.Outcome { t.Error("it ran"); return providers.Good() })
	test.Cleanup("clean", func(context.Context) providers.Outcome { return providers.Good() })
	r := test.Report("Connected")
	if r.OK || r.Level != 1 || r.Code() != providers.CodeAuthFailed || r.Fault() != providers.FaultConfig ||
		r.Message != providers.CodeAuthFailed.Info().Hint || r.Steps[1].Status != providers.StepSkip || r.Steps[2].Status != providers.StepOK {
		t.Errorf("%+v", r)
	}
}

// One secret may begin as another does: nothing of the longer one is left.
func TestReportsHoldNoSecret(t *testing.T) {
	c := providers.Config{
		Params:  map[string]any{"username": "bob"},
		Secrets: secret.Map{"a": secret.New("hunter2"), "b": secret.New("hunter2-and-a-long-tail"), "c": secret.New("ok")},
	}
	test := providers.NewTest(t.Context(), c, providers.TestOptions{})
	test.Note("said", providers.Warned(providers.CodeProtocolError,
		"550 hunter2-and-a-long-tail, hunter2, AGJvYgBodW50ZXIy aHVudGVyMg== ok"))
	got := test.Report("Connected").Steps[0].Hint
	for _, part := range []string{"hunter", "tail", "AGJvYgBodW50ZXIy", "aHVudGVyMg"} {
		if strings.Contains(got, part) {
			t.Errorf("%q is left of %q", part, got)
		}
	}
	if !strings.HasSuffix(got, " ok") {
		t.Errorf("%q", got)
	}
}
