//! The tools, prompts and resources that the conformance suite calls by name, served over the daemon's own HTTP
//! stack: its listener's connections, its guard, its sessions. What the suite then finds broken, we have broken.

use std::collections::BTreeMap;
use std::sync::Arc;

use cproxy::cli::Running;
use cproxy::config::{self, Environment, Overrides, Source};
use cproxy::front::http;
use cproxy::front::mcp::{Sessions, mount};
#[allow(deprecated, reason = "the suite asks for what older revisions have")]
use rmcp::model::*;
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer, ServerHandler};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// A PNG of one pixel.
const PIXEL: &str =
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8DwHwAFBQIAX8jx0gAAAABJRU5ErkJggg==";
/// A WAV without a sample.
const SILENCE: &str = "UklGRiQAAABXQVZFZm10IBAAAAABAAEAQB8AAIA+AAACABAAZGF0YQAAAAA=";

/// The server of the suite's fixtures.
struct Fixtures;

/// Serves the fixtures for as long as the runtime lives; gives the address.
pub async fn serve() -> String {
    let load = || {
        let source = Source::Text("[ledger]\nenabled = false\n".to_owned(), "/nowhere".into());
        let read = &|_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let environment = Environment { variables: BTreeMap::new(), read };
        config::load(&source, &environment, &Overrides::default()).map_err(|error| error.to_string())
    };
    let running = Running::start(load().unwrap(), Arc::new(load), None).await.unwrap();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let at = listener.local_addr().unwrap();
    let (sessions, stop) = (Sessions::new(), CancellationToken::new());
    let service = mount(|| Ok(Fixtures), &sessions, at.port(), &[], stop.clone());
    let routes = axum::Router::new().nest_service("/mcp", service);
    let routes = http::router(running.daemon().clone(), Some(routes));
    tokio::spawn(async move {
        let (_running, _sessions) = (running, sessions);
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(http::serve_connection(stream, routes.clone(), stop.clone()));
        }
    });
    format!("http://{at}/mcp")
}

/// A value of the protocol, written as it goes over the wire.
fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value.clone()).unwrap_or_else(|error| panic!("{error}: {value}"))
}

fn tools() -> Value {
    let plain = [
        "test_simple_text",
        "test_image_content",
        "test_audio_content",
        "test_embedded_resource",
        "test_multiple_content_types",
        "test_tool_with_logging",
        "test_error_handling",
        "test_tool_with_progress",
        "test_elicitation_sep1034_defaults",
        "test_elicitation_sep1330_enums",
        "test_reconnection",
    ];
    let mut tools: Vec<Value> = plain.iter().map(|name| tool(name, json!({ "type": "object" }))).collect();
    for (name, argument) in [("test_sampling", "prompt"), ("test_elicitation", "message")] {
        let properties = json!({ argument: { "type": "string" } });
        tools.push(tool(name, json!({ "type": "object", "properties": properties, "required": [argument] })));
    }
    tools.push(tool(
        "json_schema_2020_12_tool",
        json!({
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "$defs": { "address": { "type": "object", "properties": {
                "street": { "type": "string" }, "city": { "type": "string" } } } },
            "properties": { "name": { "type": "string" }, "address": { "$ref": "#/$defs/address" } },
            "additionalProperties": false
        }),
    ));
    json!({ "tools": tools })
}

fn tool(name: &str, input: Value) -> Value {
    json!({ "name": name, "description": "For the conformance suite", "inputSchema": input })
}

fn text(text: impl Into<String>) -> Value {
    json!({ "type": "text", "text": text.into() })
}

fn image() -> Value {
    json!({ "type": "image", "data": PIXEL, "mimeType": "image/png" })
}

fn embedded(uri: &str, mime: &str, text: &str) -> Value {
    json!({ "type": "resource", "resource": { "uri": uri, "mimeType": mime, "text": text } })
}

/// The schema by which the suite tries default values.
fn defaults() -> Value {
    json!({ "type": "object", "properties": {
        "name": { "type": "string", "default": "John Doe" },
        "age": { "type": "integer", "default": 30 },
        "score": { "type": "number", "default": 95.5 },
        "status": { "type": "string", "enum": ["active", "inactive", "pending"], "default": "active" },
        "verified": { "type": "boolean", "default": true }
    } })
}

/// The schema by which the suite tries every way to write a choice.
fn choices() -> Value {
    let titled =
        |name: &str| json!([{ "const": "value1", "title": name }, { "const": "value2", "title": "Second" }]);
    let plain = json!({ "type": "string", "enum": ["option1", "option2", "option3"] });
    json!({ "type": "object", "properties": {
        "untitledSingle": plain,
        "titledSingle": { "type": "string", "oneOf": titled("First Option") },
        "legacyEnum": {
            "type": "string", "enum": ["opt1", "opt2"], "enumNames": ["Option One", "Option Two"] },
        "untitledMulti": { "type": "array", "items": plain },
        "titledMulti": { "type": "array", "items": { "anyOf": titled("First Choice") } }
    } })
}

/// Asks the person behind the client.
async fn elicit(
    context: &RequestContext<RoleServer>,
    message: &str,
    schema: Value,
) -> Result<String, ErrorData> {
    let asked = of(json!({ "mode": "form", "message": message, "requestedSchema": schema }));
    let answer = context.peer.send_request(ServerRequest::ElicitRequest(ElicitRequest::new(asked))).await;
    let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
    let answer = serde_json::to_value(&answer).unwrap();
    Ok(format!("action={}, content={}", answer["action"].as_str().unwrap_or_default(), answer["content"]))
}

fn pause() -> tokio::time::Sleep {
    tokio::time::sleep(std::time::Duration::from_millis(50))
}

#[allow(deprecated, reason = "the suite asks for what older revisions have")]
impl ServerHandler for Fixtures {
    fn get_info(&self) -> ServerConfig {
        let capabilities = ServerCapabilities::builder()
            .enable_tools()
            .enable_prompts()
            .enable_resources()
            .enable_resources_subscribe()
            .enable_logging()
            .enable_completions()
            .build();
        ServerConfig::new(capabilities)
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(of(tools()))
    }

    async fn call_tool(
        &self,
        request: CallToolRequestParams,
        context: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let argument = |name: &str| {
            let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name)?.as_str());
            value.unwrap_or_default().to_owned()
        };
        let content = match &*request.name {
            "test_simple_text" => json!([text("This is a simple text response for testing.")]),
            "test_image_content" => json!([image()]),
            "test_audio_content" => json!([{ "type": "audio", "data": SILENCE, "mimeType": "audio/wav" }]),
            "test_embedded_resource" => {
                json!([embedded(
                    "test://embedded-resource",
                    "text/plain",
                    "This is an embedded resource content."
                )])
            }
            "test_multiple_content_types" => {
                let resource =
                    embedded("test://mixed-content-resource", "application/json", "{\"test\":\"data\"}");
                json!([text("Multiple content types test:"), image(), resource])
            }
            "test_error_handling" => {
                let said = text("This tool intentionally returns an error for testing");
                return Ok(of::<CallToolResult>(json!({ "content": [said], "isError": true })).into());
            }
            "test_tool_with_logging" => {
                for said in ["Tool execution started", "Tool processing data", "Tool execution completed"] {
                    let message = LoggingMessageNotificationParam::new(LoggingLevel::Info, said.into());
                    let _ = context.peer.notify_logging_message(message).await;
                    pause().await;
                }
                json!([text("logged")])
            }
            "test_tool_with_progress" => {
                for (token, done) in context.meta.get_progress_token().iter().cycle().zip([0.0, 50.0, 100.0])
                {
                    let progress = ProgressNotificationParam::new(token.clone(), done).with_total(100.0);
                    let _ = context.peer.notify_progress(progress).await;
                    pause().await;
                }
                json!([text("progressed")])
            }
            "test_sampling" => {
                let message = json!({ "role": "user", "content": text(argument("prompt")) });
                let asked = of(json!({ "messages": [message], "maxTokens": 100 }));
                let answer = context.peer.create_message(asked).await;
                let answer = answer.map_err(|error| ErrorData::internal_error(error.to_string(), None))?;
                let answer = serde_json::to_value(&answer).unwrap();
                json!([text(format!("LLM response: {}", answer["content"]))])
            }
            "test_elicitation" => {
                let member = json!({ "type": "string" });
                let schema = json!({ "type": "object", "properties": { "username": member, "email": member },
                    "required": ["username", "email"] });
                let answer = elicit(&context, &argument("message"), schema).await?;
                json!([text(format!("User response: {answer}"))])
            }
            "test_elicitation_sep1034_defaults" => {
                let answer = elicit(&context, "Please confirm", defaults()).await?;
                json!([text(format!("Elicitation completed: {answer}"))])
            }
            "test_elicitation_sep1330_enums" => {
                let answer = elicit(&context, "Please choose", choices()).await?;
                json!([text(format!("Elicitation completed: {answer}"))])
            }
            _ => json!([text("done")]),
        };
        Ok(of::<CallToolResult>(json!({ "content": content })).into())
    }

    async fn list_resources(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourcesResult, ErrorData> {
        let all = ["test://static-text", "test://static-binary", "test://watched-resource"];
        let all = all.map(|uri| json!({ "uri": uri, "name": uri }));
        Ok(of(json!({ "resources": all })))
    }

    async fn list_resource_templates(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListResourceTemplatesResult, ErrorData> {
        Ok(of(
            json!({ "resourceTemplates": [{ "uriTemplate": "test://template/{id}/data", "name": "data" }] }),
        ))
    }

    async fn read_resource(
        &self,
        request: ReadResourceRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<ReadResourceResponse, ErrorData> {
        let uri = request.uri.as_str();
        let id = uri.strip_prefix("test://template/").and_then(|rest| rest.strip_suffix("/data"));
        let content = match (uri, id) {
            ("test://static-binary", _) => json!({ "uri": uri, "mimeType": "image/png", "blob": PIXEL }),
            (_, Some(id)) => {
                let data = json!({ "id": id, "templateTest": true, "data": format!("Data for ID: {id}") });
                json!({ "uri": uri, "mimeType": "application/json", "text": data.to_string() })
            }
            _ => {
                let text = "This is the content of the static text resource.";
                json!({ "uri": uri, "mimeType": "text/plain", "text": text })
            }
        };
        Ok(of::<ReadResourceResult>(json!({ "contents": [content] })).into())
    }

    async fn subscribe(
        &self,
        _: SubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn unsubscribe(
        &self,
        _: UnsubscribeRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn set_level(
        &self,
        _: SetLevelRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        Ok(())
    }

    async fn list_prompts(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListPromptsResult, ErrorData> {
        let argument = |name: &str| json!({ "name": name, "required": true });
        let prompt = |name: &str, arguments: Value| json!({ "name": name, "description": "For the conformance suite", "arguments": arguments });
        Ok(of(json!({ "prompts": [
            prompt("test_simple_prompt", json!([])),
            prompt("test_prompt_with_arguments", json!([argument("arg1"), argument("arg2")])),
            prompt("test_prompt_with_embedded_resource", json!([argument("resourceUri")])),
            prompt("test_prompt_with_image", json!([]))
        ] })))
    }

    async fn get_prompt(
        &self,
        request: GetPromptRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<GetPromptResponse, ErrorData> {
        let argument = |name: &str| {
            let value = request.arguments.as_ref().and_then(|arguments| arguments.get(name)?.as_str());
            value.unwrap_or_default().to_owned()
        };
        let contents = match &*request.name {
            "test_prompt_with_arguments" => {
                let said = format!("arg1='{}', arg2='{}'", argument("arg1"), argument("arg2"));
                vec![text(format!("Prompt with arguments: {said}"))]
            }
            "test_prompt_with_embedded_resource" => {
                let content = "Embedded resource content for testing.";
                vec![
                    embedded(&argument("resourceUri"), "text/plain", content),
                    text("Please process the embedded resource above."),
                ]
            }
            "test_prompt_with_image" => vec![image(), text("Please analyze the image above.")],
            _ => vec![text("This is a simple prompt for testing.")],
        };
        let messages: Vec<Value> =
            contents.into_iter().map(|content| json!({ "role": "user", "content": content })).collect();
        Ok(of::<GetPromptResult>(json!({ "messages": messages })).into())
    }

    async fn complete(
        &self,
        _: CompleteRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CompleteResult, ErrorData> {
        Ok(of(json!({ "completion": { "values": ["paris", "park"], "total": 2, "hasMore": false } })))
    }
}
