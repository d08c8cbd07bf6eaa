//! One document under each of several others.

use crate::error::{Diagnostic, Failure};
use crate::fetch::{Fetcher, Sources};
use crate::render::{Files, Input, Options, Rendered, Streams, combine, evaluate};
use crate::tree::Node;

/// Merges every document of `targets` over `source`, each for itself, and evaluates the results.
///
/// Documents after the first of `source` are an error, but with [`Streams::Merge`] the first of
/// the targets. All results read one state of a bucket, through one connection.
///
/// # Errors
/// Everything that is wrong with the first result that fails, at once.
pub async fn fan(
    source: Input,
    targets: Vec<Input>,
    options: &Options,
    sources: &dyn Sources,
) -> Result<Vec<Rendered>, Failure> {
    let inputs: Vec<Input> = std::iter::once(source).chain(targets).collect();
    let files = Files::new(inputs);
    let mut documents: Vec<(usize, Node)> = Vec::new();
    for (number, found) in files.parse_all().into_iter().enumerate() {
        documents.extend(found?.into_iter().map(|document| (number, without_start(document))));
    }
    let of_source = documents.iter().filter(|(number, _)| *number == 0).count();
    if of_source > 1 && options.streams == Streams::Refuse {
        return Err(Failure::one(Diagnostic::top(format!(
            "{}: holds {of_source} YAML documents, where one is merged under all others; say that \
             the rest of them are such others (-m), or split them",
            files.inputs[0].name
        ))));
    }
    let mut documents = documents.into_iter();
    let Some((_, source)) = documents.next() else { return Ok(Vec::new()) };
    let mut fetcher = Fetcher::new(sources);
    let mut results = Vec::new();
    for target in documents {
        let prepared = combine(files.clone(), vec![(0, source.clone()), target], options)?;
        results.push(evaluate(prepared, options, &mut fetcher).await?);
    }
    Ok(results)
}

/// The results are one stream, whose `---` are not those of the documents.
fn without_start(mut document: Node) -> Node {
    if let Some(extras) = &mut document.extras {
        let head = extras.head.take().unwrap_or_default();
        extras.above.splice(0..0, head);
    }
    document
}
