//! This module generates the Rust catalogue of RPCs from the option `(runhub.v1.rpc)` of each RPC. `proto/rpc.rs`
//! includes the generated constants and trait implementations.

use std::error::Error;
use std::fmt::Write;

use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, ExtensionDescriptor, Kind, MessageDescriptor, MethodDescriptor, ReflectMessage,
};

const PACKAGE: &str = "runhub.v1";

/// Returns the Rust code of the catalogue of RPCs.
///
/// # Errors
/// Fails if an RPC has no option `(runhub.v1.rpc)`, or if the option has no known admission.
pub fn generate(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let option =
        pool.get_extension_by_name("runhub.v1.rpc").ok_or("the protos do not declare the option (runhub.v1.rpc)")?;
    let mut rpcs = Vec::new();
    for service in pool.services().filter(|service| service.package_name() == PACKAGE) {
        for method in service.methods() {
            rpcs.push(RpcEntry::read(method, &option)?);
        }
    }
    let mut code = String::new();
    write_constants(&mut code, &rpcs)?;
    for (index, rpc) in rpcs.iter().enumerate() {
        write_impls(&mut code, index, rpc)?;
    }
    write_macro(&mut code, &rpcs)?;
    Ok(code)
}

/// An RPC with the values of its option `(runhub.v1.rpc)`.
struct RpcEntry {
    method: MethodDescriptor,
    mutates: bool,
    /// The name of the Rust variant for the admission: `First`, `Open` or `Limited`.
    admission: &'static str,
    paged: bool,
    max_response_bytes: Option<i32>,
}

impl RpcEntry {
    fn read(method: MethodDescriptor, option: &ExtensionDescriptor) -> Result<Self, Box<dyn Error>> {
        let options = method.options();
        if !options.has_extension(option) {
            return Err(format!(
                "RPC {} does not have the option (runhub.v1.rpc): add the option to the RPC",
                method.full_name()
            )
            .into());
        }
        let options = options.get_extension(option);
        let options = options.as_message().ok_or("the option (runhub.v1.rpc) is not declared as a message")?;
        let admission = match get_admission_name(options)?.as_str() {
            "ADMISSION_FIRST" => "First",
            "ADMISSION_OPEN" => "Open",
            "ADMISSION_LIMITED" => "Limited",
            other => {
                let name = method.full_name();
                return Err(format!(
                    "RPC {name} has the unknown admission {other}: use ADMISSION_FIRST, ADMISSION_OPEN or \
                     ADMISSION_LIMITED"
                )
                .into());
            }
        };
        let mutates = get_field(options, "mutates")?.as_bool().unwrap_or(false);
        let paged = get_field(options, "paged")?.as_bool().unwrap_or(false);
        let max_response_bytes = get_field(options, "max_response_bytes")?.as_i32().filter(|bytes| *bytes > 0);
        Ok(Self { method, mutates, admission, paged, max_response_bytes })
    }

    /// Returns the name of the method that calls this RPC in the generated client.
    fn method_name(&self) -> String {
        to_snake_case(self.method.name())
    }

    fn has_field(&self, name: &str) -> bool {
        has_field(&self.method.input(), name)
    }
}

/// Returns the name of the admission in the option `(runhub.v1.rpc)`, such as `ADMISSION_FIRST`. Fails if the enum has
/// no value with the number in the option.
fn get_admission_name(options: &DynamicMessage) -> Result<String, Box<dyn Error>> {
    let descriptor = options.descriptor().get_field_by_name("admission");
    let descriptor = descriptor.ok_or("the message RpcOptions has no field admission")?;
    let Kind::Enum(admissions) = descriptor.kind() else {
        return Err("the field `RpcOptions.admission` must be an enum: correct proto/runhub/v1/options.proto".into());
    };
    let number = options.get_field(&descriptor).as_enum_number();
    let value = number.and_then(|number| admissions.get_value(number));
    let value = value.ok_or_else(|| format!("the enum {} has no value {number:?}", admissions.name()))?;
    Ok(value.name().to_owned())
}

fn get_field(message: &DynamicMessage, name: &str) -> Result<protox::prost_reflect::Value, Box<dyn Error>> {
    let value = message.get_field_by_name(name).ok_or_else(|| format!("the message RpcOptions has no field {name}"))?;
    Ok(value.into_owned())
}

fn has_field(message: &MessageDescriptor, name: &str) -> bool {
    message.get_field_by_name(name).is_some()
}

fn to_snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (at, letter) in name.chars().enumerate() {
        if letter.is_ascii_uppercase() && at > 0 {
            snake.push('_');
        }
        snake.push(letter.to_ascii_lowercase());
    }
    snake
}

fn write_constants(code: &mut String, rpcs: &[RpcEntry]) -> std::fmt::Result {
    writeln!(code, "/// Every RPC of the API, in the order of the protos.")?;
    writeln!(code, "pub static RPCS: [Rpc; {}] = [", rpcs.len())?;
    for rpc in rpcs {
        let service = rpc.method.parent_service().full_name().to_owned();
        let name = rpc.method.name();
        writeln!(
            code,
            "    Rpc {{ name: {name:?}, path: \"/{service}/{name}\", mutates: {}, admission: Admission::{}, paged: {}, \
             streams: {}, max_response_bytes: {:?} }},",
            rpc.mutates,
            rpc.admission,
            rpc.paged,
            rpc.method.is_server_streaming(),
            rpc.max_response_bytes
        )?;
    }
    writeln!(code, "];")
}

fn write_impls(code: &mut String, index: usize, rpc: &RpcEntry) -> std::fmt::Result {
    let input = rpc.method.input();
    let request = input.name();
    let has_id = rpc.has_field("request_id");
    let has_wait = rpc.has_field("wait");
    writeln!(code, "impl Request for v1::{request} {{")?;
    writeln!(code, "    const RPC: &'static Rpc = &RPCS[{index}];")?;
    if has_id {
        writeln!(code, "    fn request_id_mut(&mut self) -> Option<&mut String> {{ Some(&mut self.request_id) }}")?;
    }
    if has_wait {
        writeln!(code, "    fn wait_mut(&mut self) -> Option<&mut prost_types::Duration> {{ self.wait.as_mut() }}")?;
    }
    writeln!(code, "}}")?;
    if rpc.mutates && has_id {
        let without_wait = if has_wait { "wait: None, " } else { "" };
        writeln!(code, "impl Mutation for v1::{request} {{")?;
        writeln!(code, "    fn request_id(&self) -> &str {{ &self.request_id }}")?;
        if input.get_field_by_name("run_id").is_some_and(|field| !field.supports_presence()) {
            writeln!(code, "    fn run_id(&self) -> &str {{ &self.run_id }}")?;
        }
        // A call that ends a task names the lease that it ends.
        if rpc.has_field("task_id") && rpc.has_field("lease_token") {
            writeln!(code, "    fn ended_task_id(&self) -> &str {{ &self.task_id }}")?;
        }
        writeln!(code, "    fn content(&self) -> Self {{")?;
        writeln!(code, "        Self {{ request_id: String::new(), {without_wait}..self.clone() }}")?;
        writeln!(code, "    }}\n}}")?;
    }
    if rpc.paged {
        writeln!(code, "impl Paged for v1::{request} {{")?;
        writeln!(code, "    fn take_page(&mut self) -> (i32, String) {{")?;
        writeln!(code, "        (std::mem::take(&mut self.page_size), std::mem::take(&mut self.page_token))")?;
        writeln!(code, "    }}\n}}")?;
    }
    Ok(())
}

/// Writes a macro to `code`. The macro passes every unary RPC to another macro, groups the RPCs by service, and uses
/// the method names of the generated clients.
fn write_macro(code: &mut String, rpcs: &[RpcEntry]) -> std::fmt::Result {
    writeln!(code, "/// Calls a macro with every unary RPC: `module::Client {{ method(Request) -> Response, … }} …`.")?;
    writeln!(
        code,
        "#[macro_export]\nmacro_rules! for_each_unary_rpc {{\n    ($callback:ident) => {{\n        $callback! {{"
    )?;
    for service_rpcs in rpcs.chunk_by(|one, next| one.method.parent_service() == next.method.parent_service()) {
        let service = service_rpcs[0].method.parent_service().name().to_owned();
        writeln!(code, "            {}_client::{service}Client {{", to_snake_case(&service))?;
        for rpc in service_rpcs.iter().filter(|rpc| !rpc.method.is_server_streaming()) {
            let input = rpc.method.input();
            let output = rpc.method.output();
            writeln!(code, "                {}({}) -> {},", rpc.method_name(), input.name(), output.name())?;
        }
        writeln!(code, "            }}")?;
    }
    writeln!(code, "        }}\n    }};\n}}")
}
