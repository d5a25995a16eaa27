// Command orchestrator runs a small example: one agent plans, two agents implement, and a checker approves.
package main

import (
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"log"
	"os"
	"sync"
	"time"

	runhub "github.com/runhub/runhub/client/go"
	v1 "github.com/runhub/runhub/client/go/runhubv1"
	"google.golang.org/protobuf/types/known/durationpb"
)

func main() {
	ctx := context.Background()
	client := must(runhub.Connect(cmp.Or(os.Getenv("RUNHUB_SERVER"), "127.0.0.1:50051")))
	run := must(client.Runs.CreateRun(ctx, &v1.CreateRunRequest{Goal: "Ship the parser", RepoPath: "/repo"})).Run.Id
	var watchers, agents sync.WaitGroup
	watchers.Go(func() { watch(ctx, client, run, func(e *v1.Event) { fmt.Println(e.Seq, e.Kind, e.Message) }) })
	watchers.Go(func() { watch(ctx, client, run, func(e *v1.Event) { approve(ctx, client, e) }, "approval_requested") })
	plan(ctx, client, run)
	agents.Go(func() { implement(ctx, client, run, "agent 1") })
	agents.Go(func() { implement(ctx, client, run, "agent 2") })
	agents.Wait()
	done := finish(ctx, client, run)
	watchers.Wait()
	fmt.Printf("run %s: %d tasks done\n", run, done)
}

func watch(ctx context.Context, client *runhub.Client, run string, handle func(*v1.Event), kinds ...string) {
	for update, err := range client.Subscribe(&v1.SubscribeEventsRequest{RunId: run, Kinds: kinds}).Updates(ctx) {
		if event := must(update, err).GetEvent(); event != nil {
			handle(event)
		}
	}
}

func plan(ctx context.Context, client *runhub.Client, run string) {
	must(client.Agents.SaveAgentState(ctx, &v1.SaveAgentStateRequest{State: &v1.AgentState{RunId: run, Role: "strategy"}}))
	must(client.Tasks.AddTasks(ctx, &v1.AddTasksRequest{RunId: run, Tasks: []*v1.TaskDraft{
		{Key: "parser", Title: "Write the parser"}, {Title: "Print errors", DependsOn: []string{"parser"}},
		{Title: "Document it", DependsOn: []string{"parser"}}}}))
	must(client.Runs.UpdateRun(ctx, &v1.UpdateRunRequest{RunId: run, Status: v1.RunStatus_RUN_STATUS_RUNNING.Enum()}))
}

func implement(ctx context.Context, client *runhub.Client, run, agent string) {
	request := &v1.ClaimTaskRequest{RunId: run, AgentId: agent, Wait: durationpb.New(time.Second)}
	for {
		answer := must(client.Tasks.ClaimTask(ctx, request))
		if claim := answer.Claim; claim != nil {
			_, lease := client.KeepLease(ctx, claim)
			must(0, lease.Run(func(context.Context) error { // Longer work must end when this context ends.
				time.Sleep(50 * time.Millisecond)
				return lease.Progress(map[string]any{"percent": 50})
			}))
			must(client.Tasks.CompleteTask(ctx, &v1.CompleteTaskRequest{TaskId: claim.Task.Id, LeaseToken: &claim.LeaseToken,
				Summary: claim.Task.Title + ": done", Result: runhub.MustValue(map[string]any{"lines": 120})}))
		} else if answer.Unclaimable.Pending == 0 {
			return
		}
	}
}

func approve(ctx context.Context, client *runhub.Client, requested *v1.Event) {
	approval := requested.Payload.GetStructValue().AsMap()
	digest := approval["subjectDigest"].(string)
	must(client.Approvals.DecideApproval(ctx, &v1.DecideApprovalRequest{ApprovalId: approval["approvalId"].(string),
		ExpectedSubjectDigest: &digest, Source: "checker", Verdict: v1.ApprovalVerdict_APPROVAL_VERDICT_APPROVED,
		Rationale: "All tasks are done."}))
}

func finish(ctx context.Context, client *runhub.Client, run string) int {
	tasks := must(client.Tasks.ListTasks(ctx, &v1.ListTasksRequest{RunId: run})).Tasks
	hash := sha256.New()
	for _, task := range tasks {
		fmt.Fprintln(hash, task.GetImplementationSummary())
	}
	digest := fmt.Sprintf("sha256:%x", hash.Sum(nil))
	approval := must(client.Approvals.RequestApproval(ctx, &v1.RequestApprovalRequest{RunId: run, Title: "Ship it?",
		RequestedBy: "implementation", SubjectDigest: digest, Ttl: durationpb.New(time.Minute)})).Approval.Id
	must(client.Approvals.WaitApproval(ctx, &v1.WaitApprovalRequest{ApprovalId: approval, Wait: durationpb.New(30 * time.Second)}))
	must(client.Approvals.ConsumeApproval(ctx, &v1.ConsumeApprovalRequest{ApprovalId: approval, SubjectDigest: digest}))
	status, payload := v1.RunStatus_RUN_STATUS_COMPLETED, runhub.MustValue(map[string]any{"tasks": len(tasks)})
	must(client.Checkpoints.CreateCheckpoint(ctx, &v1.CreateCheckpointRequest{RunId: run, Status: status, Payload: payload}))
	must(client.Runs.UpdateRun(ctx, &v1.UpdateRunRequest{RunId: run, Status: status.Enum()}))
	return len(tasks)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
