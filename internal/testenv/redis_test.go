package testenv_test

import (
	"reflect"
	"testing"

	"github.com/patchbay-dev/patchbay/internal/testenv"
)

func TestRedisRepliesOfEveryType(t *testing.T) {
	t.Parallel()
	r := testenv.Redis(t)
	a, b := r.Prefix(t), r.Prefix(t)
	if a == b {
		t.Fatal("two tests got one prefix")
	}
	for _, step := range []struct {
		args []string
		want any
	}{
		{[]string{"SET", a + "k", "a\r\nb"}, "OK"},
		{[]string{"GET", a + "k"}, "a\r\nb"},
		{[]string{"GET", b + "k"}, nil},
		{[]string{"INCR", a + "n"}, int64(1)},
		{[]string{"MGET", a + "n", b + "n"}, []any{"1", nil}},
	} {
		got, err := r.Command(step.args...)
		if err != nil || !reflect.DeepEqual(got, step.want) {
			t.Errorf("%q: %#v, %v; want %#v", step.args, got, err, step.want)
		}
	}
	if _, err := r.Command("NOSUCH"); err == nil {
		t.Error("an unknown command is no error")
	}
}

func TestKilledRedisComesBackEmptyOnItsPort(t *testing.T) {
	t.Parallel()
	r := testenv.NewRedis(t)
	if _, err := r.Command("SET", "k", "v"); err != nil {
		t.Fatal(err)
	}
	r.Kill()
	if _, err := r.Command("PING"); err == nil {
		t.Fatal("a killed server answers")
	}
	r.Start(t)
	if got, err := r.Command("GET", "k"); err != nil || got != nil {
		t.Fatalf("GET after restart: %v, %v", got, err)
	}
}
