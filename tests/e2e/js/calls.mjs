// Calls of the published client against a running service, one after another, each under a name.
//
//   node calls.mjs '{"url": "http://127.0.0.1:11337", "slug": "…", "admin": {"slug": "…", "password": "…"}, "calls": ["user.login"]}'
//
// prints {"<name>": {"value": …}} or {"<name>": {"status": 401, "body": {…}}} as JSON. What later calls need of earlier ones they
// leave in `seen`. What a call should give is said in tests/e2e/test_js_client.py.

import {
  ChatSvcApi,
  Configuration,
  FileSvcApi,
  ModelSvcApi,
  PolicySvcApi,
  PromptSvcApi,
  ResponseError,
  UserSvcApi,
} from "@1backend/client";

const { url, slug, admin, model, calls } = JSON.parse(process.argv[2]);
const password = "correct horse battery";
// Answered in a few words: the model is small, and so may be the machine.
const question = "What is the capital of France?";
const seen = { user: "", root: "", userId: "", enroll: "", thread: "", upload: "" };

const configuration = (apiKey) => new Configuration({ basePath: url, ...(apiKey ? { apiKey } : {}) });
// The client sends the key as it is: once with its scheme, once naked.
const as = (Api) => new Api(configuration(`Bearer ${seen.user}`));
const asRoot = (Api) => new Api(configuration(seen.root));
const anonymous = (Api) => new Api(configuration());

const CALLS = {
  "user.register": async () => {
    const reply = await anonymous(UserSvcApi).register({ body: { appHost: "unnamed", slug, password, name: "Ann" } });
    seen.user = reply.token.token;
    return reply;
  },
  "user.login": async () => {
    const root = await anonymous(UserSvcApi).login({ body: { appHost: "unnamed", ...admin } });
    seen.root = root.token.token;
    return anonymous(UserSvcApi).login({ body: { appHost: "unnamed", slug, password } });
  },
  "user.login with a wrong password": () =>
    anonymous(UserSvcApi).login({ body: { appHost: "unnamed", slug, password: "wrong" } }),
  "user.readSelf": () => as(UserSvcApi).readSelf(),
  "user.readSelf without a token": () => anonymous(UserSvcApi).readSelf(),
  // This call of the client sends no key of itself.
  "user.refreshToken": () => as(UserSvcApi).refreshToken({ headers: { Authorization: `Bearer ${seen.user}` } }),
  "user.getPublicKey": () => anonymous(UserSvcApi).getPublicKey(),
  "user.hasPermission": () => as(UserSvcApi).hasPermission({ permission: "prompt-svc:prompt:create" }),
  "user.savePermits": () =>
    asRoot(UserSvcApi).savePermits({
      body: { permits: [{ permission: "prompt-svc:prompt:view", roles: ["user-svc:user"], appHost: "*" }] },
    }),

  "user.listUsers": async () => {
    const reply = await asRoot(UserSvcApi).listUsers({ body: { search: slug, count: true } });
    seen.userId = reply.users[0].id;
    return reply;
  },
  "user.saveEnrolls": async () => {
    const reply = await asRoot(UserSvcApi).saveEnrolls({ body: { enrolls: [{ role: "js-svc:reader", userId: seen.userId }] } });
    seen.enroll = reply.enrolls[0].id;
    return reply;
  },
  "user.listEnrolls": () => asRoot(UserSvcApi).listEnrolls({ body: { userId: seen.userId } }),
  "user.refreshToken with the role": async () => {
    const reply = await as(UserSvcApi).refreshToken({ headers: { Authorization: `Bearer ${seen.user}` } });
    return new UserSvcApi(configuration(reply.token.token)).readSelf();
  },
  // The last calls of the user: they end all of its tokens.
  "user.deleteEnrolls": () => asRoot(UserSvcApi).deleteEnrolls({ body: { ids: [seen.enroll] } }),
  "user.readSelf with a token that said otherwise": () => as(UserSvcApi).readSelf(),
  "user.resetPassword": async () => {
    const body = { newPassword: `${password}, renewed` };
    const reply = await asRoot(UserSvcApi).resetPassword({ userId: seen.userId, body });
    const login = { appHost: "unnamed", slug, password: body.newPassword };
    return { reply, token: (await anonymous(UserSvcApi).login({ body: login })).token };
  },
  "user.revokeTokens": () => asRoot(UserSvcApi).revokeTokens({ body: { userId: seen.userId, allTokens: true } }),

  "prompt.prompt": () =>
    as(PromptSvcApi).prompt({ body: { prompt: question, sync: true, threadId: `${slug}-thread` } }),
  "prompt.prompt with the documented parameters": () =>
    as(PromptSvcApi).prompt({
      body: {
        prompt: question,
        id: `${slug}-prompt`,
        sync: true,
        maxRetries: 2,
        modelId: model,
        parameters: { textToText: { template: "[INST] {prompt} [/INST]" } },
        engineParameters: { llamaCppParameters: { template: "{prompt}" } },
      },
    }),
  "prompt.prompt that is bad": () => as(PromptSvcApi).prompt({ body: { prompt: " " } }),
  "prompt.listPrompts": () => as(PromptSvcApi).listPrompts(),
  "prompt.listPrompts with a query": () =>
    as(PromptSvcApi).listPrompts({
      body: {
        query: {
          filters: [{ fields: ["status"], op: "isInList", valuesJson: JSON.stringify(["completed"]) }],
          orderBys: [{ field: "createdAt", desc: true }],
          limit: 10,
          count: true,
        },
      },
    }),
  "prompt.subscribeToPromptResponses": async () => {
    // The typed call waits for the end of a stream that has none; its raw form gives the reply as soon as it begins.
    const threadId = `${slug}/stream`;
    const hangUp = new AbortController();
    const reply = await as(PromptSvcApi).subscribeToPromptResponsesRaw({ threadId }, { signal: hangUp.signal });
    const submitted = await as(PromptSvcApi).prompt({ body: { prompt: question, threadId } });
    const chunks = [];
    let text = "";
    for await (const part of reply.raw.body.pipeThrough(new TextDecoderStream())) {
      text += part;
      const frames = text.split("\n\n");
      text = frames.pop();
      for (const frame of frames) {
        const data = frame.split("\n").find((line) => line.startsWith("data: "));
        if (data) chunks.push(JSON.parse(data.slice("data: ".length)));
      }
      if (chunks.some((chunk) => chunk.type === "done")) break;
    }
    hangUp.abort();
    return { contentType: reply.raw.headers.get("content-type"), promptId: submitted.prompt.id, chunks };
  },
  "prompt.removePrompt": async () => {
    const submitted = await as(PromptSvcApi).prompt({ body: { prompt: question, sync: true } });
    const removed = await as(PromptSvcApi).removePrompt({ body: { promptId: submitted.prompt.id } });
    const query = { filters: [{ fields: ["id"], op: "equals", valuesJson: JSON.stringify([submitted.prompt.id]) }] };
    return { removed, left: await as(PromptSvcApi).listPrompts({ body: { query } }) };
  },
  "prompt.removePrompt of nothing": () => as(PromptSvcApi).removePrompt({ body: { promptId: "no-such-prompt" } }),
  "prompt.promptTypes": () => as(PromptSvcApi).promptTypes({ body: {} }),

  "model.getDefaultModelStatus": () => as(ModelSvcApi).getDefaultModelStatus(),
  "model.getModelStatus": () => as(ModelSvcApi).getModelStatus({ modelId: model }),
  "model.getModel": () => as(ModelSvcApi).getModel({ modelId: model }),
  "model.getModel that is unknown": () => as(ModelSvcApi).getModel({ modelId: "no/such/model" }),
  "model.listModels": () => as(ModelSvcApi).listModels(),
  "model.listPlatforms": () => as(ModelSvcApi).listPlatforms(),
  "model.startModel": () => asRoot(ModelSvcApi).startModel({ modelId: model }),
  "model.startDefaultModel": () => asRoot(ModelSvcApi).startDefaultModel(),
  "model.makeDefault": () => asRoot(ModelSvcApi).makeDefault({ modelId: model }),

  "chat.saveThread": async () => {
    const reply = await as(ChatSvcApi).saveThread({ body: { title: "A talk" } });
    seen.thread = reply.thread.id;
    return reply;
  },
  "chat.listThreads": () => as(ChatSvcApi).listThreads({ body: {} }),
  "chat.saveMessage": () =>
    as(ChatSvcApi).saveMessage({ threadId: seen.thread, body: { id: `${slug}-message`, text: "Hello there" } }),
  "chat.listMessages": () => as(ChatSvcApi).listMessages({ body: { threadId: seen.thread } }),
  "chat.deleteMessage": async () => {
    const deleted = await as(ChatSvcApi).deleteMessage({ messageId: `${slug}-message` });
    return { deleted, left: await as(ChatSvcApi).listMessages({ body: { threadId: seen.thread } }) };
  },
  "chat.deleteThread": async () => {
    const deleted = await as(ChatSvcApi).deleteThread({ threadId: seen.thread });
    return { deleted, left: await as(ChatSvcApi).listThreads({ body: { ids: [seen.thread] } }) };
  },

  "file.uploadFile": async () => {
    const reply = await as(FileSvcApi).uploadFile({ file: new Blob(["seventeen bytes!!"], { type: "text/plain" }) });
    seen.upload = reply.upload.fileId;
    return reply;
  },
  "file.listUploads": () => as(FileSvcApi).listUploads({ body: {} }),
  "file.serveUpload": async () => {
    // The original serves whoever knows the id, so that the client sends no key here; ours asks for the owner's.
    const headers = { Authorization: `Bearer ${seen.user}` };
    const blob = await as(FileSvcApi).serveUpload({ fileId: seen.upload }, { headers });
    return { size: blob.size, text: await blob.text() };
  },
  "file.deleteUpload": async () => {
    const deleted = await as(FileSvcApi).deleteUpload({ fileId: seen.upload });
    return { deleted, left: await as(FileSvcApi).listUploads({ body: {} }) };
  },

  "policy.upsertInstance": () =>
    asRoot(PolicySvcApi).upsertInstance({
      instanceId: `${slug}-limit`,
      body: {
        instance: {
          endpoint: `/${slug}/nowhere`,
          templateId: "rate-limit",
          parameters: { rateLimit: { maxRequests: 1, timeWindow: "1m", entity: "userId", scope: "endpoint" } },
        },
      },
    }),
  "policy.check": async () => {
    const body = { endpoint: `/${slug}/nowhere`, method: "GET", ip: "192.0.2.1", userId: `usr-${slug}` };
    return [await asRoot(PolicySvcApi).check({ body }), await asRoot(PolicySvcApi).check({ body })];
  },
};

const results = {};
for (const name of calls ?? Object.keys(CALLS)) {
  try {
    results[name] = { value: (await CALLS[name]()) ?? null };
  } catch (error) {
    if (!(error instanceof ResponseError)) results[name] = { failed: String(error?.stack ?? error) };
    else results[name] = { status: error.response.status, body: await error.response.json() };
  }
}
console.log(JSON.stringify(results));
