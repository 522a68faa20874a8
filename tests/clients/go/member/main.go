// franz-go as a member of a group with its default settings (cooperative-sticky); see ../../README.md for the
// conversation.
package main

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"sort"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func main() {
	topic, group := os.Args[2], os.Args[3]
	file, err := os.Create(os.Args[4])
	if err != nil {
		fail(err)
	}
	out := bufio.NewWriter(file)
	processed := 0
	pending := map[int32]*kgo.Record{} // the last processed record of each partition that is not committed yet

	// A commit may meet the moment in which the group waits for its new assignment; the offsets are still ours, so
	// the next one carries them.
	commit := func(ctx context.Context, client *kgo.Client) {
		if len(pending) == 0 {
			return
		}
		if err := out.Flush(); err != nil {
			fail(err)
		}
		records := make([]*kgo.Record, 0, len(pending))
		for _, record := range pending {
			records = append(records, record)
		}
		if err := client.CommitRecords(ctx, records...); err == kerr.RebalanceInProgress {
			return
		} else if err != nil {
			fmt.Println("commit failed", err)
			return
		}
		clear(pending)
		fmt.Println("processed", processed)
	}
	gone := func(ctx context.Context, client *kgo.Client, lost map[string][]int32) {
		commit(ctx, client)
		for _, partition := range lost[topic] {
			delete(pending, partition)
		}
		fmt.Println("revoked", list(lost[topic]))
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(os.Args[1]),
		kgo.ConsumeTopics(topic),
		kgo.ConsumerGroup(group),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.DisableAutoCommit(),
		kgo.BlockRebalanceOnPoll(),
		kgo.OnPartitionsAssigned(func(_ context.Context, _ *kgo.Client, assigned map[string][]int32) {
			fmt.Println("assigned", list(assigned[topic]))
		}),
		kgo.OnPartitionsRevoked(gone),
	)
	if err != nil {
		fail(err)
	}
	ctx, leave := context.WithCancel(context.Background())
	go func() {
		bufio.NewReader(os.Stdin).ReadString('\n')
		leave()
	}()
	for ctx.Err() == nil {
		fetches := client.PollRecords(ctx, 10000)
		fetches.EachError(func(_ string, partition int32, err error) {
			if ctx.Err() == nil {
				fail(fmt.Errorf("fetch of partition %d: %w", partition, err))
			}
		})
		fetches.EachRecord(func(record *kgo.Record) {
			sequence, err := strconv.Atoi(string(record.Value[:10]))
			if err != nil {
				fail(err)
			}
			fmt.Fprintln(out, record.Partition, record.Offset, sequence)
			pending[record.Partition] = record
			processed++
		})
		commit(context.Background(), client)
		client.AllowRebalance()
	}
	commit(context.Background(), client)
	client.CloseAllowingRebalance()
	if err := out.Flush(); err != nil {
		fail(err)
	}
}

func list(partitions []int32) string {
	sort.Slice(partitions, func(a, b int) bool { return partitions[a] < partitions[b] })
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(partitions), " ", ","), "[]")
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}
