//! The API as the compiled descriptor has it, each item with its comment.

use std::collections::BTreeMap;

use prost_reflect::{
    DescriptorPool, EnumDescriptor, EnumValueDescriptor, FieldDescriptor, FileDescriptor, MessageDescriptor,
    MethodDescriptor, ServiceDescriptor,
};
use runhub_api::Rpc;

const PACKAGE: &str = "runhub.v1";

/// The order of the services on the page. A service that is missing here comes last.
const SERVICES: [&str; 8] = [
    "RunService",
    "TaskService",
    "EventService",
    "ApprovalService",
    "AgentService",
    "CheckpointService",
    "ArtifactService",
    "ServerService",
];

/// Everything in package `runhub.v1`.
pub struct Api {
    pool: DescriptorPool,
    comments: BTreeMap<(String, Vec<i32>), String>,
}

impl Api {
    /// Reads the descriptor that the server was built with.
    pub fn load() -> Self {
        let pool = DescriptorPool::decode(runhub_api::FILE_DESCRIPTOR_SET).unwrap();
        let files = pool.files().filter(|file| file.package_name() == PACKAGE);
        let comments = files.flat_map(|file| comments_of(&file)).collect();
        Self { pool, comments }
    }

    pub fn services(&self) -> Vec<ServiceDescriptor> {
        let mut services: Vec<_> = self.pool.services().filter(|service| is_ours(service.package_name())).collect();
        let place = |name: &str| SERVICES.iter().position(|service| *service == name).unwrap_or(SERVICES.len());
        services.sort_by_key(|service| (place(service.name()), service.name().to_owned()));
        services
    }

    pub fn rpcs(&self) -> Vec<MethodDescriptor> {
        self.services().iter().flat_map(|service| service.methods().collect::<Vec<_>>()).collect()
    }

    /// Returns the messages that are no request or response of an RPC, by name.
    pub fn messages(&self) -> Vec<MessageDescriptor> {
        let rpcs = self.rpcs();
        let is_of_an_rpc =
            |message: &MessageDescriptor| rpcs.iter().any(|rpc| rpc.input() == *message || rpc.output() == *message);
        let mut messages: Vec<_> = self.pool.all_messages().collect();
        messages.retain(|message| is_ours(message.package_name()) && !message.is_map_entry() && !is_of_an_rpc(message));
        messages.sort_by_key(|message| message.name().to_owned());
        messages
    }

    pub fn message(&self, name: &str) -> MessageDescriptor {
        self.pool.get_message_by_name(&format!("{PACKAGE}.{name}")).unwrap()
    }

    /// Returns the fields of a message in the order of the proto file.
    pub fn fields(&self, message: &MessageDescriptor) -> Vec<FieldDescriptor> {
        let mut fields: Vec<_> = message.fields().collect();
        fields.sort_by_key(|field| field.path().to_vec());
        fields
    }

    pub fn enums(&self) -> Vec<EnumDescriptor> {
        let mut enums: Vec<_> = self.pool.all_enums().filter(|one| is_ours(one.package_name())).collect();
        enums.sort_by_key(|one| one.name().to_owned());
        enums
    }

    /// Returns the values of ErrorReason that are sent, without their prefix.
    pub fn reasons(&self) -> Vec<(String, EnumValueDescriptor)> {
        let reasons = self.pool.get_enum_by_name("runhub.v1.ErrorReason").unwrap();
        let sent: Vec<_> = reasons.values().filter(|value| value.number() != 0).collect();
        sent.into_iter().map(|value| (value.name().replace("ERROR_REASON_", ""), value)).collect()
    }

    /// Returns the comment of an item, with its line breaks. Panics if the item has none.
    pub fn comment(&self, item: &impl Item) -> &str {
        let (file, path) = item.place();
        let comment = self.comments.get(&(file.name().to_owned(), path.clone()));
        comment.unwrap_or_else(|| panic!("{} has no comment at {path:?}", file.name()))
    }

    /// Returns what the option `(runhub.v1.rpc)` says of an RPC.
    pub fn facts(&self, rpc: &MethodDescriptor) -> &'static Rpc {
        let path = format!("/{}/{}", rpc.parent_service().full_name(), rpc.name());
        Rpc::find_by_path(&path).unwrap_or_else(|| panic!("{path} is not in the catalogue"))
    }

    /// Returns the entries of the list in an RPC's comment that begins with "Errors:", each in one line.
    pub fn errors(&self, rpc: &MethodDescriptor) -> Vec<String> {
        let paragraph = self.comment(rpc).split("\n\n").find(|paragraph| paragraph.starts_with("Errors:"));
        let paragraph = paragraph.unwrap_or_else(|| panic!("the comment of {} lists no errors", rpc.full_name()));
        let mut entries: Vec<String> = Vec::new();
        for line in paragraph.lines().map(|line| line.trim()) {
            match (line.strip_prefix("- "), entries.last_mut()) {
                (Some(entry), _) => entries.push(entry.to_owned()),
                (None, Some(last)) => *last = format!("{last} {line}"),
                // The word "Errors:" itself, and "none of its own" after it.
                (None, None) => {}
            }
        }
        entries
    }

    /// Returns every name that the page must have.
    pub fn all_names(&self) -> Vec<String> {
        let mut names = Vec::new();
        let of_rpcs = self.rpcs().into_iter().flat_map(|rpc| {
            names.push(format!("### {}", rpc.name()));
            [rpc.input(), rpc.output()]
        });
        let messages: Vec<_> = of_rpcs.chain(self.messages()).collect();
        for message in messages {
            names.extend(message.fields().map(|field| format!("| `{}` |", field.name())));
        }
        for value in self.enums().iter().flat_map(|one| one.values().collect::<Vec<_>>()) {
            names.push(value.name().replace("ERROR_REASON_", "").clone());
        }
        names.retain(|name| name != "UNSPECIFIED");
        names
    }
}

fn is_ours(package: &str) -> bool {
    package == PACKAGE
}

fn comments_of(file: &FileDescriptor) -> Vec<((String, Vec<i32>), String)> {
    let info = file.file_descriptor_proto().source_code_info.clone().unwrap_or_default();
    let comments = info.location.into_iter().filter(|location| location.leading_comments.is_some());
    comments.map(|location| ((file.name().to_owned(), location.path.clone()), unindented(&location))).collect()
}

/// The parser keeps the space after `//`.
fn unindented(location: &prost_types::source_code_info::Location) -> String {
    let lines = location.leading_comments().lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end());
    lines.collect::<Vec<_>>().join("\n")
}

/// Something in a proto file that has a comment.
pub trait Item {
    /// Returns the file of the item and its path in the file's descriptor.
    fn place(&self) -> (FileDescriptor, Vec<i32>);
}

macro_rules! items {
    ($($kind:ty => |$item:ident| $file:expr;)+) => {
        $(impl Item for $kind {
            fn place(&self) -> (FileDescriptor, Vec<i32>) {
                let $item = self;
                ($file, self.path().to_vec())
            }
        })+
    };
}

items! {
    ServiceDescriptor => |item| item.parent_file();
    MethodDescriptor => |item| item.parent_service().parent_file();
    MessageDescriptor => |item| item.parent_file();
    FieldDescriptor => |item| item.parent_message().parent_file();
    EnumDescriptor => |item| item.parent_file();
    EnumValueDescriptor => |item| item.parent_enum().parent_file();
}
