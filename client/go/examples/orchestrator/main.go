// A small orchestrator: it plans, two agents do the work, a checker approves it, and a watcher prints what happens.
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
	ctx, client := context.Background(), must(runhub.Connect(cmp.Or(os.Getenv("RUNHUB_SERVER"), "127.0.0.1:50051")))
	run := must(client.Runs.CreateRun(ctx, &v1.CreateRunRequest{Goal: "Ship the parser", RepoPath: "/repo"})).Run
	var watchers, agents sync.WaitGroup
	watchers.Go(func() { watch(ctx, client, run.Id, func(e *v1.Event) { fmt.Println(e.Seq, e.Kind, e.Message) }) })
	watchers.Go(func() {
		watch(ctx, client, run.Id, func(e *v1.Event) { approve(ctx, client, e) }, "approval_requested")
	})
	plan(ctx, client, run.Id)
	agents.Go(func() { implement(ctx, client, run.Id, "agent 1") })
	agents.Go(func() { implement(ctx, client, run.Id, "agent 2") })
	agents.Wait()
	done := ship(ctx, client, run.Id)
	watchers.Wait()
	fmt.Printf("run %s: %d tasks done\n", run.Id, done)
}

func watch(ctx context.Context, client *runhub.Client, runID string, show func(*v1.Event), kinds ...string) {
	for update, err := range client.Subscribe(&v1.SubscribeEventsRequest{RunId: runID, Kinds: kinds}).Updates(ctx) {
		if event := must(update, err).GetEvent(); event != nil {
			show(event)
		}
	}
}

func plan(ctx context.Context, client *runhub.Client, runID string) {
	must(client.Agents.SaveAgentState(ctx, &v1.SaveAgentStateRequest{State: &v1.AgentState{RunId: runID, Role: "strategy", Turns: 1}}))
	must(client.Tasks.AddTasks(ctx, &v1.AddTasksRequest{RunId: runID, Tasks: []*v1.TaskDraft{
		{Key: "1", Title: "Write the parser"},
		{Title: "Print errors", DependsOn: []string{"1"}}, {Title: "Document it", DependsOn: []string{"1"}}}}))
	must(client.Runs.UpdateRun(ctx, &v1.UpdateRunRequest{RunId: runID, Status: v1.RunStatus_RUN_STATUS_RUNNING.Enum()}))
}

func implement(ctx context.Context, client *runhub.Client, runID, name string) {
	for {
		answer := must(client.Tasks.ClaimTask(ctx, &v1.ClaimTaskRequest{RunId: runID, AgentId: name, Wait: durationpb.New(time.Second)}))
		if claim := answer.Claim; claim != nil {
			_, lease := client.KeepLease(ctx, claim)
			must(0, lease.Run(func(context.Context) error { // Work that takes longer must end with this context.
				defer time.Sleep(50 * time.Millisecond)
				return lease.Progress(map[string]any{"percent": 50})
			}))
			must(client.Tasks.CompleteTask(ctx, &v1.CompleteTaskRequest{TaskId: claim.Task.Id, LeaseToken: &claim.LeaseToken,
				Summary: claim.Task.Title + ": done", Result: runhub.MustValue(map[string]any{"lines": 120})}))
		} else if answer.Unclaimable.Pending == 0 {
			return
		}
	}
}

func approve(ctx context.Context, client *runhub.Client, asked *v1.Event) {
	shown := asked.Payload.GetStructValue().AsMap()
	id, digest := shown["approvalId"].(string), shown["subjectDigest"].(string)
	must(client.Approvals.DecideApproval(ctx, &v1.DecideApprovalRequest{ApprovalId: id, ExpectedSubjectDigest: &digest,
		Source: "checker", Verdict: v1.ApprovalVerdict_APPROVAL_VERDICT_APPROVED, Rationale: "The plan is done"}))
}

func ship(ctx context.Context, client *runhub.Client, runID string) int {
	tasks := must(client.Tasks.ListTasks(ctx, &v1.ListTasksRequest{
		RunId: runID, Statuses: []v1.TaskStatus{v1.TaskStatus_TASK_STATUS_COMPLETED}})).Tasks
	var summaries []byte
	for _, task := range tasks {
		summaries = fmt.Appendln(summaries, task.GetImplementationSummary())
	}
	digest := fmt.Sprintf("sha256:%x", sha256.Sum256(summaries))
	id := must(client.Approvals.RequestApproval(ctx, &v1.RequestApprovalRequest{RunId: runID, Title: "Ship it?",
		RequestedBy: "implementation", SubjectDigest: digest, Ttl: durationpb.New(time.Minute)})).Approval.Id
	must(client.Approvals.WaitApproval(ctx, &v1.WaitApprovalRequest{ApprovalId: id, Wait: durationpb.New(30 * time.Second)}))
	must(client.Approvals.ConsumeApproval(ctx, &v1.ConsumeApprovalRequest{ApprovalId: id, SubjectDigest: digest}))
	must(client.Checkpoints.CreateCheckpoint(ctx, &v1.CreateCheckpointRequest{RunId: runID,
		Status: v1.RunStatus_RUN_STATUS_COMPLETED, Payload: runhub.MustValue(map[string]any{"tasks": len(tasks)})}))
	must(client.Runs.UpdateRun(ctx, &v1.UpdateRunRequest{RunId: runID, Status: v1.RunStatus_RUN_STATUS_COMPLETED.Enum()}))
	return len(tasks)
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
