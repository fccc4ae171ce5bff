// A greeting, by the official client for Go. See README.md.
package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/lambda"
)

type Event struct {
	Name string `json:"name"`
}

type Answer struct {
	Greeting string    `json:"greeting"`
	Started  time.Time `json:"started"`  // the same in all clones of a version
	Instance string    `json:"instance"` // each clone's own
}

var (
	started  = time.Now()
	instance string
	once     sync.Once
)

func handle(ctx context.Context, event Event) (Answer, error) {
	once.Do(func() { // in the first event and not before, so that clones differ
		var id [8]byte
		rand.Read(id[:])
		instance = fmt.Sprintf("%x", id)
	})
	return Answer{"Hello, " + event.Name + "!", started, instance}, nil
}

func main() {
	lambda.Start(handle)
}
