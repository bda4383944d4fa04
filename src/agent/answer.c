/* SPDX-License-Identifier: MIT */
#include <string.h>

#include "dragoman/agent/agent.h"

/* What the agent's servers say, on the socket and on the port alike. */

void agent_answer(const char *path, struct http_reply *reply, void *agent)
{
	const bool ready = agent_is_ready(agent);

	reply->status = 200;
	reply->type = "text/plain; charset=utf-8";
	text_done(&reply->body);
	if (strcmp(path, "/status") == 0) {
		reply->type = "application/json";
		agent_status(agent, &reply->body);
	} else if (strcmp(path, "/metrics") == 0) {
		reply->type = "text/plain; version=0.0.4; charset=utf-8";
		agent_metrics(agent, &reply->body);
	} else if (strcmp(path, "/healthz") == 0) {
		text_puts(&reply->body, "ok\n");
	} else if (strcmp(path, "/readyz") == 0) {
		reply->status = ready ? 200 : 503;
		text_puts(&reply->body, ready ? "ready\n" : "the first full round is not done\n");
	} else {
		reply->status = 404;
		text_puts(&reply->body, "there are /status, /metrics, /healthz and /readyz\n");
	}
}
