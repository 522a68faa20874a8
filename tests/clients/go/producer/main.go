// franz-go as the producer of a million records, with its default settings (idempotent, acks=all); see ../../README.md
// for the conversation.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	topic := os.Args[2]
	client, err := kgo.NewClient(kgo.SeedBrokers(os.Args[1]), kgo.DefaultProduceTopic(topic))
	if err != nil {
		fail(err)
	}
	defer client.Close()
	filler := strings.Repeat(".", 90)
	var failure atomic.Pointer[error]
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var first, end int
		if _, err := fmt.Sscanf(lines.Text(), "produce %d %d", &first, &end); err != nil {
			fail(err)
		}
		for sequence := first; sequence < end; sequence++ {
			record := kgo.KeyStringRecord(fmt.Sprint(sequence%1000), fmt.Sprintf("%010d%s", sequence, filler))
			client.Produce(context.Background(), record, func(_ *kgo.Record, err error) {
				if err != nil {
					failure.Store(&err)
				}
			})
		}
		if err := client.Flush(context.Background()); err != nil {
			fail(err)
		}
		if err := failure.Load(); err != nil {
			fail(*err)
		}
		fmt.Println("acknowledged", end)
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
